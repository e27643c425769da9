"""Feature aliasing: similar features, different quality (docs/method.md, section 9).

The paper observes that many image pairs lie close in a backbone's feature space but have very
different quality. The aliasing rate of a feature space is the share of nearest semantic neighbors
whose labels differ by more than one standard deviation. The same share over all pairs is the rate
of an uninformative feature space.

Shapes: N images, D feature width, K neighbors.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qfm_iqm.errors import TableError

_ROWS_AT_ONCE = 512  # bounds memory: rows of the N x N similarities held at a time


@dataclass(frozen=True)
class AliasedPair:
    """Two images with similar features and different quality.

    Attributes:
        first: row of the first image.
        second: row of the second image.
        similarity: cosine similarity of their features.
        label_gap: absolute difference of their labels, in standard deviations.
    """

    first: int
    second: int
    similarity: float
    label_gap: float


@dataclass(frozen=True)
class Aliasing:
    """The aliasing of a feature space.

    Attributes:
        rate: share of the nearest neighbors whose labels are more than `threshold` apart.
        random_rate: the same share over all pairs of different content.
        neighbors: number K of nearest neighbors.
        threshold: label difference above which a pair is aliased, in standard deviations.
        pairs: the aliased pairs of highest similarity, each listed once.
    """

    rate: float
    random_rate: float
    neighbors: int
    threshold: float
    pairs: tuple[AliasedPair, ...]


def aliasing(
    features_ND: npt.ArrayLike,
    labels_N: npt.ArrayLike,
    contents: Sequence[str],
    *,
    neighbors: int = 10,
    threshold: float = 1.0,
    examples: int = 16,
) -> Aliasing:
    """Measures the aliasing of a feature space on rated images.

    Args:
        features_ND: one semantic descriptor (D,) per image; compared by cosine.
        labels_N: labels (N,), in any units.
        contents: content of each image; images of the same content are not neighbors.
        neighbors: number K of nearest neighbors of each image.
        threshold: label difference above which a pair is aliased, in standard deviations of these
            labels.
        examples: largest number of pairs to return.

    Raises:
        TableError: lengths differ, a feature is not finite, or `check_rated` refuses.
    """
    features = np.asarray(features_ND, dtype=np.float64)
    labels = np.asarray(labels_N, dtype=np.float64)
    if features.ndim != 2 or len(features) != len(labels):
        raise TableError(
            f"Features must be one row for each of the {len(labels)} labels, but their shape is "
            f"{features.shape}."
        )
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features).all(axis=1)).sum())
        raise TableError(
            f"The features of {bad} of {len(features)} images are not finite numbers: the network "
            "that computed them is broken."
        )
    check_rated(labels, contents, neighbors)
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    labels = labels / labels.std()
    _, content = np.unique(np.asarray(contents), return_inverse=True)

    aliased_near = aliased_all = pairs_all = 0
    found: dict[tuple[int, int], AliasedPair] = {}
    for start in range(0, len(labels), _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(labels)))
        similarity = (features[rows] @ features.T).clip(-1, 1)
        gap = np.abs(labels[rows, None] - labels[None, :])
        other = content[rows, None] != content[None, :]
        aliased_all += int(((gap > threshold) & other).sum())
        pairs_all += int(other.sum())
        similarity[~other] = -np.inf
        nearest = np.argpartition(-similarity, neighbors - 1, axis=1)[:, :neighbors]
        places, ranks = np.nonzero(np.take_along_axis(gap, nearest, axis=1) > threshold)
        aliased_near += len(places)
        for place, column in zip(places.tolist(), nearest[places, ranks].tolist(), strict=True):
            row = start + place
            key = (min(row, column), max(row, column))
            found[key] = AliasedPair(
                *key, float(similarity[place, column]), float(gap[place, column])
            )
    best = sorted(found.values(), key=lambda pair: (-pair.similarity, pair.first, pair.second))
    return Aliasing(
        rate=aliased_near / (len(labels) * neighbors),
        random_rate=aliased_all / pairs_all,
        neighbors=neighbors,
        threshold=threshold,
        pairs=tuple(best[: max(0, examples)]),
    )


def check_rated(labels_N: npt.ArrayLike, contents: Sequence[str], neighbors: int) -> None:
    """Refuses rated images with undefined aliasing, before any features are computed.

    Args:
        labels_N: labels (N,).
        contents: content of each image.
        neighbors: number of nearest neighbors of each image.

    Raises:
        TableError: lengths differ, a label is not finite, labels are constant, or an image has
            fewer than `neighbors` images of other content.
    """
    labels = np.asarray(labels_N, dtype=np.float64)
    if labels.ndim != 1 or len(labels) != len(contents):
        raise TableError(
            f"Labels and contents must be of the same images, but labels of shape {labels.shape} "
            f"and {len(contents)} contents were given."
        )
    if neighbors < 1:
        raise TableError(f"Aliasing needs at least 1 neighbor, not {neighbors}.")
    fewest = len(labels) - max(Counter(contents).values(), default=0)
    if fewest < neighbors:
        raise TableError(
            f"Each image needs {neighbors} neighbors of other content, but one of these "
            f"{len(labels)} images has only {fewest}: give more contents, or take fewer neighbors."
        )
    if not np.isfinite(labels).all():
        raise TableError(
            f"{int((~np.isfinite(labels)).sum())} of {len(labels)} labels are not finite numbers: "
            "correct them or remove these images."
        )
    # Rounding may give equal labels a standard deviation above zero.
    if labels.min() == labels.max():
        raise TableError(f"All {len(labels)} labels are equal: nothing can be aliased.")
