"""Quality gate: which images pass, and why the others do not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from qfm_iqm.errors import QFMError, TableError
from qfm_iqm.exit_codes import ExitCode
from qfm_iqm.scoring.pairing import pair, repeated_paths
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.table import ScoreTable, table_of

Outcome = Literal["pass", "review", "fail", "error"]
NOISE = 1e-4  # scores of an image by different runtimes differ by less
OUTCOMES: tuple[Outcome, ...] = ("pass", "review", "fail", "error")


@dataclass(frozen=True)
class Rule:
    """The requirements for an image.

    Attributes:
        limit: required score; None for no limit.
        review: band of scores [low, high) that need a manual review instead of passing or failing;
            None for no band.
        max_drop: how much worse than in the baseline the score may be; None for no check.
        higher_is_better: direction of the scores.
        max_causes: largest severity in points, by cause.

    Raises:
        QFMError: there is no requirement, or a limit, band, drop or severity is invalid.
    """

    limit: float | None = None
    review: tuple[float, float] | None = None
    max_drop: float | None = None
    higher_is_better: bool = True
    max_causes: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.limit is None and self.max_drop is None and not self.max_causes:
            raise QFMError(
                "A gate needs a requirement: give --min, --max, --max-drop or --max-cause."
            )
        asked = (self.limit, *(self.review or ()), self.max_drop, *self.max_causes.values())
        for value in asked:
            # Comparisons with NaN are False, so it would let everything pass.
            if value is not None and not math.isfinite(value):
                raise QFMError(f"A gate needs finite numbers, but {value:g} was given.")
        if self.review is not None and not self.review[0] < self.review[1]:
            low, high = self.review
            raise QFMError(f"The review band {low:g}:{high:g} is empty: give it as LOW:HIGH.")
        if self.review and self.limit is not None:
            low, high = self.review
            if not low <= self.limit <= high:
                raise QFMError(
                    f"The review band {low:g}:{high:g} must include the limit {self.limit:g}: "
                    "otherwise images would fail that are better than those to review, or worse "
                    "ones pass."
                )
        if self.max_drop is not None and self.max_drop < 0:
            raise QFMError(f"A drop must be 0 or more, not {self.max_drop:g}.")
        for cause, points in self.max_causes.items():
            if points < 0:
                raise QFMError(f"A cause costs 0 points or more, not {cause}:{points:g}.")

    def describe(self) -> str:
        """Describes the rule in words."""
        parts = []
        if self.limit is not None:
            parts.append(f"score {'>=' if self.higher_is_better else '<='} {self.limit:g}")
        if self.review is not None:
            parts.append(f"{self.review[0]:g} to {self.review[1]:g} to be reviewed")
        if self.max_drop is not None:
            parts.append(f"at most {self.max_drop:g} worse than the baseline")
        parts += [f"{cause} at most {points:g} points" for cause, points in self.max_causes.items()]
        return ", ".join(parts)


@dataclass(frozen=True)
class Verdict:
    """The gate's result for one image.

    Attributes:
        path: the image.
        outcome: "pass", "review", "fail", or "error" if it could not be scored.
        score: the score; None if there is none.
        baseline: the score in the baseline; None if there is none.
        reason: one sentence; empty for a pass.
        out_of_distribution: whether the image is unlike the training photos, so that its score is
            unreliable; None if unknown.
    """

    path: str
    outcome: Outcome
    score: float | None
    baseline: float | None
    reason: str
    out_of_distribution: bool | None = None


def apply_rule(
    rows: Sequence[ScoreRow], rule: Rule, baseline: ScoreTable | None = None
) -> list[Verdict]:
    """Checks scores against a rule.

    Args:
        rows: score rows of the images.
        rule: the rule.
        baseline: earlier scores of the same images. An image without one is only checked against
            the limit; without a limit it needs a review.

    Returns:
        One verdict per row, in order.

    Raises:
        TableError: the baseline is from another model or does not say its model, or has none of
            these images.
    """
    before = {} if baseline is None else _baseline_scores(rows, baseline)
    return [_verdict(row, rule, before.get(place)) for place, row in enumerate(rows)]


def _baseline_scores(rows: Sequence[ScoreRow], baseline: ScoreTable) -> dict[int, float]:
    now = table_of(rows, "these images")
    for column in ("model", "weights"):
        ours = set(now.columns[column]) - {""}  # a model that was never saved has no weights
        names = baseline.columns.get(column, [""] * len(baseline))
        scored = zip(names, baseline.scores, strict=True)
        theirs = {name for name, score in scored if score is not None}
        if ours and "" in theirs:
            raise TableError(
                f"The baseline {baseline.source} does not say its {column}: take a table of "
                "qfm score."
            )
        if ours and theirs and ours != theirs:
            raise TableError(
                f"The baseline {baseline.source} was scored with {column} "
                f"{', '.join(sorted(theirs))} and these images with "
                f"{', '.join(sorted(ours))}: score both with one model."
            )
    if twice := repeated_paths(baseline):
        raise TableError(f"The baseline cannot be compared with: {twice}; keep one row per image.")
    pairs = pair(now, baseline)
    if not pairs.rows:
        why = repeated_paths(now)
        raise TableError(
            f"The baseline {baseline.source} has none of these images{why and ': '}{why}."
        )
    scores = ((place, baseline.scores[earlier]) for place, earlier in pairs.rows)
    return {place: score for place, score in scores if score is not None}


def _verdict(row: ScoreRow, rule: Rule, before: float | None) -> Verdict:
    if row.score is None:
        return Verdict(row.path, "error", None, before, row.error)
    sign = 1 if rule.higher_is_better else -1
    score = row.score
    drop = None if before is None else sign * (before - score)
    outcome: Outcome = "pass"
    reason = ""
    if rule.review is not None and rule.review[0] <= score < rule.review[1]:
        outcome = "review"
        reason = f"{score:g} is within the review band {rule.review[0]:g} to {rule.review[1]:g}"
    elif rule.limit is not None and sign * (score - rule.limit) < 0:
        outcome = "fail"
        reason = f"{score:g} is {'below' if sign > 0 else 'above'} the limit of {rule.limit:g}"
    elif rule.limit is None and before is None and rule.max_drop is not None:
        outcome = "review"
        reason = "There is no limit, and the baseline has no score for it"
    # A drop fails whatever the score is: a degraded image is a defect.
    if rule.max_drop is not None and drop is not None and drop > rule.max_drop + NOISE:
        fallen = (
            f"{score:g} is {drop:.4g} worse than {before:g} in the baseline, "
            f"but at most {rule.max_drop:g} is allowed"
        )
        reason = f"{reason}; {fallen}" if outcome == "fail" else fallen
        outcome = "fail"
    for cause, most in rule.max_causes.items():
        severity = getattr(row, cause)
        if severity is not None and severity > most:
            costs = f"{cause} costs {severity:g} points, but at most {most:g} are allowed"
            reason = f"{reason}; {costs}" if outcome == "fail" else costs
            outcome = "fail"
    return Verdict(
        row.path, outcome, score, before, f"{reason}." if reason else "", row.out_of_distribution
    )


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """`ExitCode.FAILED` if an image could not be scored, else `FINDINGS` if one fails."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if "error" in outcomes:
        return ExitCode.FAILED
    return ExitCode.FINDINGS if "fail" in outcomes else ExitCode.DONE
