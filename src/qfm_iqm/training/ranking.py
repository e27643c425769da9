"""Ranking: of a crop at two strengths of one degradation, the stronger is worse (RankIQA).

    L_rank = mean max(0, q_worse - q_better + m)

Nobody needs to rate such pairs: Liu, van de Weijer and Bagdanov, "RankIQA", ICCV 2017. The images
are degraded before they are brought to the size at which they are cropped, as files are.

Shapes: B crops, C channels, S crop size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional

from qfm_iqm.image.decode import read_image
from qfm_iqm.image.distortions import DISTORTIONS, distort
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import eight_bits, resize_and_pad


def ranked_pair(
    path: Path, preprocessing: Preprocessing, draw: np.random.Generator, *, size: int | None = None
) -> tuple[Tensor, Tensor]:
    """A crop of an image at two adjacent strengths of a degradation, all of them drawn.

    Args:
        path: of the image.
        preprocessing: of the model.
        draw: what place, degradation and strength are drawn with.
        size: S; that of the model if left out.

    Returns:
        The better and the worse crop (3, S, S), uint8. The better may be the clean one.

    Raises:
        ImageError: the image cannot be read.
    """
    image_CHW, size = read_image(path), size or preprocessing.crop
    kind = str(draw.choice(list(DISTORTIONS)))
    level, seed = int(draw.integers(len(DISTORTIONS[kind]))), int(draw.integers(2**31))
    top, left = draw.random(2)  # as shares of the room there is
    crops = []
    for strength in (level, level + 1):
        degraded = distort(image_CHW, kind, strength, seed) if strength else image_CHW
        resized_CHW = resize_and_pad(degraded, preprocessing)
        room = [side - size + 1 for side in resized_CHW.shape[-2:]]
        y, x = (int(share * places) for share, places in zip((top, left), room, strict=True))
        crop = resized_CHW[:, y : y + size, x : x + size]
        crops.append(eight_bits(crop))
    return crops[0], crops[1]


def ranking(quality_B: Tensor, worse_B: Tensor, *, margin: float) -> Tensor:
    """The loss of pairs in the wrong order, or in the right one by less than the margin.

    Args:
        quality_B: answers (B,) in standard units, of pairs one crop after the other.
        worse_B: (B,) True for the worse crop of a pair, which follows the better one.
        margin: m.
    """
    worse = worse_B.nonzero().squeeze(1)
    return functional.relu(quality_B[worse] - quality_B[worse - 1] + margin).mean()
