"""What the rows of a job depend on, and what the job has come to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.scorer import Scorer


@dataclass(frozen=True)
class Identity:
    """What the rows of a job depend on, apart from the files.

    Attributes:
        model: its name.
        weights: SHA-256 of its weights.
        runtime: see `ScoreRow`.
        precision: see `ScoreRow`.
        batch_size: crops that went through the network at once: rounding depends on it.
        max_pixels: larger images were refused.
        allow_truncated: whether truncated files were taken.
        raw: what was taken of camera RAW files.
        every: seconds of a video from which one frame was scored; None refused videos.
        causes: whether rows say what lowers a photo's quality.
    """

    model: str
    weights: str
    runtime: str
    precision: str
    batch_size: int
    max_pixels: int
    allow_truncated: bool
    raw: str
    every: float | None
    causes: bool

    @classmethod
    def of(cls, scorer: Scorer) -> Identity:
        """What the rows of a scorer depend on."""
        return cls(
            model=scorer.runtime.card.name,
            weights=scorer.runtime.weights,
            runtime=scorer.runtime.name,
            precision=scorer.runtime.precision,
            batch_size=scorer.batch_size,
            max_pixels=scorer.policy.max_pixels,
            allow_truncated=scorer.policy.allow_truncated,
            raw=scorer.policy.raw,
            every=scorer.policy.every,
            causes=scorer.causes is not None,
        )

    def differs(self, row: ScoreRow) -> str:
        """What another model, runtime or precision wrote a row with, in words; else nothing."""
        for name in ("model", "weights", "runtime", "precision"):
            found, ours = getattr(row, name), getattr(self, name)
            if row.status == "ok" and found != ours:
                return f"has rows with {name} = {found}, not {ours}"
        return ""

    def wrote(self, row: ScoreRow) -> bool:
        """Whether a row of an earlier table says what scoring its file again would, or more."""
        ours = not self.differs(row)
        return row.status == "ok" and ours and (bool(row.cause) or not self.causes)


@dataclass
class Outcome:
    """What a job has come to.

    Attributes:
        rows: in the table.
        errors: rows without a score.
        first_errors: the sentences of the first five of them.
    """

    rows: int = 0
    errors: int = 0
    first_errors: list[str] = field(default_factory=list)

    def counting(self, rows: Iterable[ScoreRow]) -> Iterator[ScoreRow]:
        """The same rows, counted as they pass."""
        for row in rows:
            self.rows += 1
            if row.status == "error":
                self.errors += 1
                if len(self.first_errors) < 5:
                    self.first_errors.append(row.error)
            yield row
