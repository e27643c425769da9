"""`python -m qfm_iqm` is `qfm`."""

import os
import sys

# With `-m`, Python searches the current folder first and would run modules beside the photos.
# (Python's own imports before this line are safe with `python -P -m`.)
if __name__ == "__main__" and not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109
    del sys.path[0]

from qfm_iqm.cli.main import main

if __name__ == "__main__":
    main()
