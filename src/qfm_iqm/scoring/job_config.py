"""The settings that the rows of a job depend on, its plan, and its result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qfm_iqm.errors import QFMError
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.scorer import Scorer

SHARD = 128  # files per shard
_OPTIONS = {
    "model": "--model",
    "weights": "weights",
    "runtime": "--runtime",
    "precision": "--precision",
    "batch_size": "--batch-size",
    "max_pixels": "--max-megapixels",
    "allow_truncated": "--allow-truncated",
    "raw": "--raw",
    "every": "--every",
    "causes": "--causes (or --report)",
}


@dataclass(frozen=True)
class Identity:
    """The settings that the rows of a job depend on, besides the files.

    Attributes:
        model: name of the model.
        weights: SHA-256 of the weights.
        runtime: see `ScoreRow`.
        precision: see `ScoreRow`.
        batch_size: crops per batch, which rounding depends on.
        max_pixels: larger images are refused.
        allow_truncated: whether truncated files are accepted.
        raw: how camera RAW files are read.
        every: interval in seconds between scored video frames; None refuses videos.
        causes: whether rows hold the causes of low quality.
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
        """The settings of a scorer."""
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
        """How a row's model, runtime or precision differs, in words; empty if it does not."""
        for name in ("model", "weights", "runtime", "precision"):
            found, ours = getattr(row, name), getattr(self, name)
            if row.status == "ok" and found != ours:
                return f"has rows with {name} = {found}, not {ours}"
        return ""

    def wrote(self, row: ScoreRow) -> bool:
        """Whether a row of an earlier table is what scoring its file again would give, or more."""
        ours = not self.differs(row)
        return row.status == "ok" and ours and (bool(row.cause) or not self.causes)


def refuse_other(found: Mapping[str, Any], ours: Mapping[str, Any], where: object) -> None:
    """Refuses to resume a job with other settings.

    Args:
        found: the settings that the job was started with.
        ours: the settings now.
        where: the job's folder or URL.

    Raises:
        QFMError: a setting differs.
    """
    if found.get("columns") != ours["columns"] or found.keys() != ours.keys():
        raise QFMError(
            f"The job {where} was started by another command or version: write elsewhere, or "
            "remove it."
        )
    for name, value in ours.items():
        if found[name] != value:
            option = _OPTIONS[name]
            if isinstance(value, bool):
                said = f"{'without' if value else 'with'} {option}"
            else:
                then, now = (v / 1e6 if name == "max_pixels" else v for v in (found[name], value))
                said = f"with {option} {_shown(then)}, not {_shown(now)}"
            raise QFMError(
                f"The job {where} was started {said}: continue with the same, or write elsewhere."
            )


def _shown(value: object) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def extended(plan: Sequence[list[str]], files: Sequence[str]) -> list[list[str]]:
    """A plan with further shards of at most `SHARD` files, for the files that it lacks."""
    have = {file for shard in plan for file in shard}
    new = [file for file in files if file not in have]
    return [*plan, *(new[start : start + SHARD] for start in range(0, len(new), SHARD))]


@dataclass
class Outcome:
    """The result of a job.

    Attributes:
        rows: number of rows in the table.
        errors: number of rows without a score.
        first_errors: messages of the first five of them.
    """

    rows: int = 0
    errors: int = 0
    first_errors: list[str] = field(default_factory=list)

    def counting(self, rows: Iterable[ScoreRow]) -> Iterator[ScoreRow]:
        """Yields the rows and counts them."""
        for row in rows:
            self.rows += 1
            if row.status == "error":
                self.errors += 1
                if len(self.first_errors) < 5:
                    self.first_errors.append(row.error)
            yield row
