"""Severity thresholds for naming each cause, and their accuracy on held-out copies."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from qfm_iqm.causes.severity import CAUSES, worst_cause

LEAST_NAMED = 4.0  # points; people hardly notice less
WRONG_SECOND = 0.05  # share of copies in which a cause may be named beside the true one


def thresholds(
    found: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.float32],
    clean: float,
) -> list[float]:
    """The severity from which each cause is named.

    All start at `LEAST_NAMED`. They are raised one at a time until a share `clean` of the copies
    without a fault has no cause. Each step loses the fewest faults per such copy.
    """
    alone = found[wanted.max(1) == 0]
    single = (wanted > 0).sum(1) == 1
    faults = [found[single & (wanted[:, i] >= 8), i] for i in range(len(CAUSES))]
    least = np.full(len(CAUSES), LEAST_NAMED)
    while (quiet := (alone < least).all(1)).mean() < clean:
        prices = []
        for i in range(len(CAUSES)):
            others = (np.delete(alone, i, 1) < np.delete(least, i)).all(1)
            for level in np.unique(np.floor(alone[~quiet & others, i] * 10) / 10 + 0.1):
                won = (others & (alone[:, i] < level)).sum() - quiet.sum()
                lost = ((faults[i] >= least[i]) & (faults[i] < level)).mean()
                prices.append((lost / won, i, level))
        _, i, least[i] = min(prices)
    # The last steps may have gone too far: undo those that win most faults back.
    while True:
        gains = []
        for i in range(len(CAUSES)):
            others = (np.delete(alone, i, 1) < np.delete(least, i)).all(1)
            spare = int(others.sum() - np.ceil(clean * len(alone)))
            level = max(LEAST_NAMED, _least_above(alone[others, i], spare))
            gains.append((((faults[i] >= level) & (faults[i] < least[i])).mean(), i, level))
        gain, i, level = max(gains)
        if gain <= 0 or level >= least[i]:
            break
        least[i] = level
    return [round(float(value), 1) for value in least]


def second_thresholds(
    found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32], least: list[float]
) -> list[float]:
    """The severity from which each cause is named beside a worse one; at most `least`.

    Of the copies with another fault alone, a share `WRONG_SECOND` reaches it.
    """
    second = []
    for i, limit in enumerate(least):
        alone = (wanted[:, i] == 0) & (wanted.max(1) >= 8) & ((wanted > 0).sum(1) == 1)
        level = _least_above(found[alone, i], int(WRONG_SECOND * alone.sum()))
        second.append(round(min(limit, max(LEAST_NAMED, level)), 1))
    return second


def _least_above(values: npt.NDArray[np.float32], spare: int) -> float:
    """The lowest multiple of 0.1 above all but `spare` values."""
    below = np.sort(values)[: len(values) - spare]
    return float(np.floor(below[-1] * 10) / 10 + 0.1)


def report(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32], clean: float) -> str:
    """Accuracy on copies with one fault, by cause and by severity."""
    least = thresholds(found, wanted, clean)
    named = np.array([worst_cause(row, least) for row in found.tolist()])
    none = (named[wanted.max(1) == 0] == "none").mean()
    lines = [f"thresholds {least}, clean without a cause {none:.3f}"]
    single = (wanted > 0).sum(1) == 1
    for low, high in ((5, 12), (12, 25), (25, 70)):
        parts = []
        for i, cause in enumerate(CAUSES):
            those = single & (wanted[:, i] >= low) & (wanted[:, i] < high)
            said = Counter(named[those].tolist())
            wrong = ", ".join(f"{k} {n}" for k, n in said.most_common() if k != cause)
            parts.append(f"{cause} {said[cause]}/{those.sum()} ({wrong})")
        lines.append(f"{low}-{high} points: " + "; ".join(parts))
    off = [np.abs(found - wanted)[single & (wanted[:, i] > 0), i] for i in range(len(CAUSES))]
    lines.append("median error " + " ".join(f"{np.median(one):.1f}" for one in off))
    two = (wanted >= 8).sum(1) == 2
    missed = (found < least) & (wanted >= 8)
    both = (missed.sum(1)[two] == 0).mean()
    lines.append(f"two faults, both named: {both:.3f} of {two.sum()}")
    return "\n".join(lines)
