"""What can go wrong by a user's hand, as exceptions that carry one clear sentence.

The command line prints the sentence and exits with a non-zero code; a Python caller
can catch `QFMError` alone. Anything else that escapes is a defect of this library.
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class QFMError(Exception):
    """A mistake in what was asked: what was found, and what to do, in one sentence.

    Examples:
        >>> from qfm_iqm import read_image
        >>> try:
        ...     read_image("gone.jpg")
        ... except QFMError as error:
        ...     print(error)
        cannot read 'gone.jpg': there is no such file
    """


TRUNCATED = "its data end too early (a truncated file)"
DAMAGED = "its data are damaged"


class ImageError(QFMError):
    """An image that cannot be read, or that the reading policy refuses."""


class ImageTooLargeError(ImageError):
    """An image that takes more pixels or memory than are allowed."""


class TableError(QFMError):
    """A table of labels or scores that cannot be used as it is."""


class ModelError(QFMError):
    """A model folder, a card or backbone weights that cannot be loaded."""


class RecipeError(QFMError):
    """A training recipe with an unknown key, a wrong type or an impossible value."""


def counted(number: int, what: str, plural: str | None = None) -> str:
    """A number of things in a sentence.

    Args:
        number: how many.
        what: one of them.
        plural: several of them; None adds an s.

    Examples:
        >>> counted(1, "photo"), counted(3, "row has", "rows have")
        ('1 photo', '3 rows have')
    """
    return f"{number} {what if number == 1 else plural or what + 's'}"


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the name that was probably meant, for the end of a sentence; empty if none is near.

    Examples:
        >>> nearest("scor", ["score", "cull"])
        " (did you mean 'score'?)"
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def reason_of(error: Exception) -> str:
    """What is wrong, for the end of a sentence: without the number and path that Python adds.

    Examples:
        >>> reason_of(IsADirectoryError(21, "Is a directory", "photos"))
        'Is a directory'
    """
    return str(getattr(error, "strerror", None) or error).rstrip(".")


def first_line(error: Exception) -> str:
    r"""What another library's error says in its first line, or its kind where it says nothing.

    Examples:
        >>> first_line(ValueError("no such key\nhere is why")), first_line(ValueError())
        ('no such key', 'ValueError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def as_raised_here() -> Iterator[None]:
    """Gives a mistake that a reading process of torch's loader met its one sentence back.

    Such a process hands over its traceback as text, and the sentence at its end.
    """
    try:
        yield
    except QFMError as error:
        kind = type(error)
        raise kind(str(error).rstrip().rpartition(f"{kind.__name__}: ")[2]) from None
