"""`python -m qfm_iqm` is `qfm`."""

from qfm_iqm.cli.main import main

if __name__ == "__main__":
    main()
