"""`python -m qfm_iqm` is `qfm`."""

import os
import sys

# `-m` has Python look for modules in the current folder first: those that lie beside the photos
# are not ours to run. (What Python itself imports before this line, `python -P -m` keeps safe.)
if __name__ == "__main__" and not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109
    del sys.path[0]

from qfm_iqm.cli.main import main

if __name__ == "__main__":
    main()
