"""Causes of low quality and their severities in points.

A severity is how many points of the 0-100 scale a good photo loses by that fault alone. It was
learned from ratings of degradations (KADID-10k): the share that raters took off the points between
a good photo and the worst one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Causes:
    """The causes of a photo's low quality.

    Attributes:
        main: the cause that costs most, or "none".
        severities: severity of each of `CAUSES`, in points.
    """

    main: str
    severities: Mapping[str, float]

    def __str__(self) -> str:
        """The main cause in words: "compression, about 30 points"."""
        return in_words(self.main, self.severities.get(self.main))


CAUSES = ("blur", "noise", "compression", "exposure", "contrast", "color")


def in_words(cause: str, severity: float | None) -> str:
    """A cause in words: "compression, about 30 points", or "none"."""
    if cause in ("", "none") or severity is None:
        return cause
    return f"{cause}, about {severity:.0f} points"


def main_cause(severities: Sequence[float], least: Sequence[float]) -> str:
    """The cause that costs most, or "none".

    Args:
        severities: severity of each of `CAUSES`, in points.
        least: least severity at which each cause is named.
    """
    named = [
        (severity, cause)
        for severity, cause, enough in zip(severities, CAUSES, least, strict=True)
        if severity >= enough
    ]
    return max(named)[1] if named else "none"
