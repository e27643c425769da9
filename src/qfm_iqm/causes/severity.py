"""The causes that a photo can lose by, and their severities in points.

A severity says how many points of the 0-100 scale a good photo loses by that fault alone. It was
learned from people's opinions of degradations (KADID-10k's): of the points between a good photo and
the worst, the share that raters took away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Causes:
    """What lowers a photo's quality.

    Attributes:
        main: the cause that costs most, or "none".
        severities: of each of `CAUSES`, in points.
    """

    main: str
    severities: Mapping[str, float]

    def __str__(self) -> str:
        """The main cause in words: "compression, about 30 points"."""
        return in_words(self.main, self.severities.get(self.main))


CAUSES = ("blur", "noise", "compression", "exposure", "contrast", "color")


def in_words(cause: str, severity: float | None) -> str:
    """A cause for people: "compression, about 30 points"; "none" for none."""
    if cause in ("", "none") or severity is None:
        return cause
    return f"{cause}, about {severity:.0f} points"


def main_cause(severities: Sequence[float], least: Sequence[float]) -> str:
    """The cause that costs most, or "none".

    Args:
        severities: in points, as of `CAUSES`.
        least: of each cause, the severity that it is named from on.
    """
    named = [
        (severity, cause)
        for severity, cause, enough in zip(severities, CAUSES, least, strict=True)
        if severity >= enough
    ]
    return max(named)[1] if named else "none"
