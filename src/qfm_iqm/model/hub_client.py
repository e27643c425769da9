"""Asking the hub: its client logs nothing, and what fails becomes one sentence."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from qfm_iqm.errors import ModelError, first_line


@contextmanager
def asking_hub(failed: str, advice: str = "") -> Iterator[None]:
    """Gives what fails within as one sentence, without the lines that the hub's client logs.

    Args:
        failed: what the hub did not give; the reason follows.
        advice: what to do, after the reason.

    Raises:
        ModelError: anything was raised within.
    """
    from huggingface_hub.utils import logging as hub_logging  # slow to import, and seldom needed

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    except Exception as error:  # the hub's client raises many kinds: none is ours to mend
        told = (f"{failed}:", first_line(error), advice)
        raise ModelError(" ".join(filter(None, told))) from error
    finally:
        hub_logging.set_verbosity(verbosity)
