"""Hub requests: silences the client's log and turns its errors into a `ModelError`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from qfm_iqm.errors import ModelError, first_line


@contextmanager
def asking_hub(failed: str, advice: str = "") -> Iterator[None]:
    """Turns errors of the hub's client into one sentence, and silences its log.

    Args:
        failed: begin of the message: what the hub did not give. The reason follows.
        advice: end of the message: what to do.

    Raises:
        ModelError: the body raised any exception.
    """
    from huggingface_hub.utils import logging as hub_logging  # slow to import, rarely needed

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    except Exception as error:  # the hub's client raises many kinds of exceptions
        told = (f"{failed}:", first_line(error), advice)
        raise ModelError(" ".join(filter(None, told))) from error
    finally:
        hub_logging.set_verbosity(verbosity)
