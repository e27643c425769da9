"""Computes paired differences and the verdict from runs."""

import math
from collections.abc import Sequence
from pathlib import Path

from confounded.config import ConfoundingRecipe
from confounded.measures import Gain, Outcome, highest_between, verdict
from qfm_iqm.metrics.paired_runs import Comparison, Run, compare
from qfm_iqm.training.ablation import read_runs

MEASURES = ("srcc", "srcc_a", "srcc_b", "gap", "log_selectivity")
REFERENCES = ("none", "random", "like_quality", "random_own")


def summarize(recipe: ConfoundingRecipe, table: Path) -> list[Comparison]:
    """Compares the finished runs of a table within pairs."""
    runs = []
    for row in read_runs(table):
        if row["setting"] not in recipe.settings:
            continue
        if row.get("selectivity"):
            row["log_selectivity"] = repr(math.log(float(row["selectivity"])))
        for measure in MEASURES:
            value = float(row.get(measure) or "nan")
            if not math.isnan(value):
                runs.append(
                    Run(row["setting"], row["variant"], int(row["seed"]), measure, "test", value)
                )
    present = {run.variant for run in runs}
    return compare(runs, [name for name in REFERENCES if name in present], interval="t")


def gain_of(
    comparisons: Sequence[Comparison], setting: str, variant: str, reference: str, metric: str
) -> Gain | None:
    """A mean paired difference and its interval; None if there is no pair."""
    for c in comparisons:
        if (c.setting, c.variant, c.reference, c.metric) == (setting, variant, reference, metric):
            return Gain(c.mean_difference, c.ci_low, c.ci_high)
    return None


def find(recipe: ConfoundingRecipe, comparisons: Sequence[Comparison]) -> Outcome | None:
    """The preregistered verdict; None until all required pairs are complete."""
    setting = recipe.settings[recipe.verdict]
    whole = [
        c for c in comparisons if c.setting == recipe.verdict and c.pairs == len(setting.seeds)
    ]
    gains = [
        gain_of(whole, recipe.verdict, variant, reference, metric)
        for variant, reference, metric in (
            ("qfm", "random", "srcc"),
            ("oracle", "random", "srcc"),
            ("qfm", "like_quality", "srcc"),
            ("qfm", "none", "log_selectivity"),
            ("qfm", "random", "log_selectivity"),
        )
    ]
    known = [gain for gain in gains if gain is not None and not math.isnan(gain.low)]
    if len(known) < len(gains):
        return None
    qfm, oracle, over_like, over_none, over_random = known
    return verdict(
        qfm,
        oracle,
        over_like_quality=over_like.mean,
        selectivity=(over_none.mean, over_random.mean),
    )


def gains_by_rho(
    recipe: ConfoundingRecipe, comparisons: Sequence[Comparison], variant: str
) -> dict[float, Gain]:
    """A variant's gain over `random` at each rho, in the registered settings."""
    found = {}
    for name, setting in recipe.settings.items():
        gain = gain_of(comparisons, name, variant, "random", "srcc")
        if setting.registered and setting.rho is not None and gain is not None:
            found[setting.rho] = gain
    return dict(sorted(found.items()))


def gains_over_random(
    recipe: ConfoundingRecipe, comparisons: Sequence[Comparison]
) -> dict[str, dict[float, Gain]]:
    """Each variant's gain over `random` at each rho, for the figure."""
    variants = dict.fromkeys(c.variant for c in comparisons if c.variant != "random")
    return {variant: gains_by_rho(recipe, comparisons, variant) for variant in variants}


def told(recipe: ConfoundingRecipe, comparisons: Sequence[Comparison]) -> str:
    """The verdict in sentences."""
    outcome = find(recipe, comparisons)
    if outcome is None:
        return "There is no verdict yet: runs are missing."
    qfm, oracle = (
        gain_of(comparisons, recipe.verdict, variant, "random", "srcc")
        for variant in ("qfm", "oracle")
    )
    text = (
        f"Verdict: {outcome}. In SRCC within clusters `qfm` gains {_said(qfm)} over `random`, and "
        f"`oracle` {_said(oracle)}."
    )
    means = {rho: g.mean for rho, g in gains_by_rho(recipe, comparisons, "qfm").items()}
    if len(means) > 2:
        between = "lies" if highest_between(means) else "does not lie"
        text += f" The largest gain of `qfm` {between} between the least and the largest rho."
    return text


def _said(gain: Gain | None) -> str:
    assert gain is not None  # guaranteed by the verdict
    return f"{gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
