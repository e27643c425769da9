"""Feature aliasing: near in features, far in quality (METHOD section 9).

The paper's observation is that many image pairs lie close in a backbone's feature space and have
very different quality. The aliasing rate of a feature space says how many: the share of the
nearest semantic neighbours whose labels differ by more than one standard deviation. Beside it
stands the same share over all pairs, which a feature space that knows nothing would reach.

Shapes: N images, D feature width, K neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qfm_iqm.errors import TableError

_ROWS_AT_ONCE = 512  # bounds memory: rows of the N x N similarities held at a time


@dataclass(frozen=True)
class AliasedPair:
    """Two images near in features and far in quality.

    Attributes:
        first: row of the one.
        second: row of the other.
        similarity: cosine of their features.
        label_gap: difference of their labels, in standard deviations.
    """

    first: int
    second: int
    similarity: float
    label_gap: float


@dataclass(frozen=True)
class Aliasing:
    """How aliased a feature space is.

    Attributes:
        rate: share of the nearest neighbours whose labels are more than `threshold` apart.
        random_rate: the same share over all pairs of different content.
        neighbours: K.
        threshold: in standard deviations of the labels.
        pairs: the aliased pairs of highest similarity, each once.
    """

    rate: float
    random_rate: float
    neighbours: int
    threshold: float
    pairs: tuple[AliasedPair, ...]


def aliasing(
    features_ND: npt.ArrayLike,
    labels_N: npt.ArrayLike,
    contents: Sequence[str],
    *,
    neighbours: int = 10,
    threshold: float = 1.0,
    examples: int = 8,
) -> Aliasing:
    """Measures the aliasing of a feature space on rated images.

    Args:
        features_ND: one semantic descriptor (D,) per image; compared by cosine.
        labels_N: labels (N,), in any units.
        contents: content of each image; images of one content are no neighbours.
        neighbours: how many nearest neighbours of each image are looked at.
        threshold: label difference above which a pair is aliased, in standard deviations.
        examples: how many pairs to return.

    Raises:
        TableError: lengths differ, labels are constant, or an image has fewer than `neighbours`
            images of other content.
    """
    features = np.asarray(features_ND, dtype=np.float64)
    labels = np.asarray(labels_N, dtype=np.float64)
    if not len(features) == len(labels) == len(contents):
        raise TableError(
            f"Features, labels and contents must be of the same images, but {len(features)}, "
            f"{len(labels)} and {len(contents)} came."
        )
    if labels.std() == 0:
        raise TableError(f"All {len(labels)} labels are equal: nothing can be aliased.")
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    labels = labels / labels.std()
    _, content = np.unique(np.asarray(contents), return_inverse=True)
    fewest = len(labels) - np.bincount(content).max()
    if fewest < neighbours:
        raise TableError(
            f"{neighbours} neighbours of other content were asked for, but an image has only "
            f"{fewest}: give more contents, or ask for fewer."
        )

    aliased_near = aliased_all = pairs_all = 0
    found: dict[tuple[int, int], AliasedPair] = {}
    for start in range(0, len(labels), _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(labels)))
        similarity = features[rows] @ features.T
        gap = np.abs(labels[rows, None] - labels[None, :])
        other = content[rows, None] != content[None, :]
        aliased_all += int(((gap > threshold) & other).sum())
        pairs_all += int(other.sum())
        similarity[~other] = -np.inf
        nearest = np.argpartition(-similarity, neighbours - 1, axis=1)[:, :neighbours]
        for place, row in enumerate(rows.tolist()):
            for column in nearest[place].tolist():
                if gap[place, column] > threshold:
                    aliased_near += 1
                    key = (min(row, column), max(row, column))
                    found[key] = AliasedPair(
                        *key, float(similarity[place, column]), float(gap[place, column])
                    )
    best = sorted(found.values(), key=lambda pair: (-pair.similarity, pair.first, pair.second))
    return Aliasing(
        rate=aliased_near / (len(labels) * neighbours),
        random_rate=aliased_all / pairs_all,
        neighbours=neighbours,
        threshold=threshold,
        pairs=tuple(best[:examples]),
    )
