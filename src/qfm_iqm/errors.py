"""Exceptions for user errors; the message of each is one clear sentence.

The command line prints the sentence and exits with a non-zero code; a Python caller needs to catch
`QFMError` only. Any other exception is a bug of this library.
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class QFMError(Exception):
    """A user error: one sentence on what was found and what to do.

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
    """An image that needs more pixels or memory than allowed."""


class TableError(QFMError):
    """A table of labels or scores that cannot be used."""


class ModelError(QFMError):
    """A model folder, model card or backbone weights that cannot be loaded."""


class RecipeError(QFMError):
    """A training recipe with an unknown key, a wrong type or an impossible value."""


class InterruptedRunError(Exception):
    """A training that stopped on request; its state is on disk."""


def counted(number: int, what: str, plural: str | None = None) -> str:
    """A number with its noun, singular or plural.

    Args:
        number: the number.
        what: singular form.
        plural: plural form; None adds an s to the singular.

    Examples:
        >>> counted(1, "photo"), counted(3, "row has", "rows have")
        ('1 photo', '3 rows have')
    """
    return f"{number} {what if number == 1 else plural or what + 's'}"


def printable(text: str) -> str:
    r"""A text with line breaks and control characters escaped, as names of files may hold any.

    Examples:
        >>> printable("a\nb \x1b[31m")
        'a\\nb \\x1b[31m'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the closest known name, for the end of a sentence; empty if none is close.

    Examples:
        >>> nearest("scor", ["score", "cull"])
        " (did you mean 'score'?)"
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def reason_of(error: Exception) -> str:
    """An error's reason for the end of a sentence, without the number and path that Python adds.

    Examples:
        >>> reason_of(IsADirectoryError(21, "Is a directory", "photos"))
        'Is a directory'
    """
    return str(getattr(error, "strerror", None) or error).rstrip(".")


def first_line(error: Exception) -> str:
    r"""The first line of an error's message, or the error's type if the message is empty.

    Examples:
        >>> first_line(ValueError("no such key\nhere is why")), first_line(ValueError())
        ('no such key', 'ValueError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def as_raised_here() -> Iterator[None]:
    """Restores the message of a `QFMError` from a worker process of torch's `DataLoader`.

    A worker passes on its traceback as text, with the message at the end.
    """
    try:
        yield
    except QFMError as error:
        kind = type(error)
        raise kind(str(error).rstrip().rpartition(f"{kind.__name__}: ")[2]) from None
