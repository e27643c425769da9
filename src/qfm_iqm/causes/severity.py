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
        second: the cause that costs most after it, or "none".
        severities: severity of each of `CAUSES`, in points.
    """

    main: str
    second: str
    severities: Mapping[str, float]

    def __str__(self) -> str:
        """The causes in words: "blur, about 30 points; noise, about 12 points"."""
        named = [cause for cause in (self.main, self.second) if cause != NONE]
        said = (f"{cause}, about {self.severities[cause]:.0f} points" for cause in named)
        return "; ".join(said) or NONE


CAUSES = ("blur", "noise", "compression", "exposure", "contrast", "color")
NONE = "none"


def worst_cause(severities: Sequence[float], least: Sequence[float], but: str = NONE) -> str:
    """The cause that costs most, or "none".

    Args:
        severities: severity of each of `CAUSES`, in points.
        least: least severity at which each cause is named.
        but: a cause to leave out.
    """
    named = [
        (severity, cause)
        for severity, cause, enough in zip(severities, CAUSES, least, strict=True)
        if severity >= enough and cause != but
    ]
    return max(named)[1] if named else NONE
