"""Augmentation of whole photos: smaller copies, frames, narrower views and degradations.

A smaller copy, a plain frame and a slightly narrower view keep the photo's label. A degraded copy
gets a lower label, computed from people's opinions of that degradation (`training.degradations`).

All steps act on the photo at its own size, before the model's preprocessing, as on people's files.
"""

import numpy as np

from qfm_iqm.arrays import Bytes
from qfm_iqm.image.distortions import distort
from qfm_iqm.image.preprocess import Preprocessing, reduced_size, reflection_padded, resized
from qfm_iqm.training.degradations import Cells, lowered
from qfm_iqm.training.recipe_schema import AugmentConfig

_SMALLER = (0.75, 0.5, 0.25, 0.125)  # scale of both sides
_FRAME = 0.12  # widest frame, as a share of the shorter side
_SECOND = ("jpeg", "webp", "avif", "gaussian blur", "white noise")
"""Kinds of the second degradation: what usually happens to a file last."""


class Augmentation:
    """Random augmentation of photos.

    Args:
        config: the recipe's `[augment]` section.
        cells: people's opinions of degradations; None if no photo is degraded.
        preprocessing: the model's preprocessing.
        flip: mirror half of the photos.

    Raises:
        TableError: the configuration names a kind without opinions.
    """

    def __init__(
        self,
        config: AugmentConfig,
        cells: Cells | None,
        preprocessing: Preprocessing,
        *,
        flip: bool,
    ) -> None:
        self._config = config
        self._cells = cells
        if cells is not None:
            cells.check(config.often)
        self._preprocessing = preprocessing
        self._flip = flip

    def __call__(
        self, pixels_HWC: Bytes, label: float, draw: np.random.Generator, *, degraded: bool
    ) -> tuple[Bytes, float]:
        """Augments a photo.

        Args:
            pixels_HWC: the photo at its own size, uint8.
            label: the photo's label, in label units.
            draw: random generator.
            degraded: whether to degrade the photo.

        Returns:
            Pixels (3, S, S) uint8, and their label.
        """
        config = self._config
        if degraded:
            pixels_HWC, label = self._degraded(pixels_HWC, label, draw)
        else:
            chance = draw.random()
            if chance < config.smaller:
                pixels_HWC = _smaller(pixels_HWC, draw)
            elif chance < config.smaller + config.framed:
                pixels_HWC = _framed(pixels_HWC, draw)
        return self._seen(pixels_HWC, draw), label

    def pair(
        self, pixels_HWC: Bytes, label: float, draw: np.random.Generator
    ) -> list[tuple[Bytes, float]]:
        """The photo and a degraded copy, cropped alike; arguments and results as in `__call__`."""
        versions = [(pixels_HWC, label), self._degraded(pixels_HWC, label, draw)]
        seed = int(draw.integers(1 << 32))
        return [(self._seen(one, np.random.default_rng(seed)), own) for one, own in versions]

    def _seen(self, pixels_HWC: Bytes, draw: np.random.Generator) -> Bytes:
        """A random crop (3, S, S) of the photo."""
        pixels_HWC = _view(pixels_HWC, draw.uniform(self._config.zoom, 1), draw)
        side, size = self._preprocessing.shorter_side, self._preprocessing.crop
        height, width = pixels_HWC.shape[:2]
        if side is not None and min(height, width) > side:
            smaller = reduced_size(height, width, side)
            pixels_HWC = resized(pixels_HWC, smaller, self._preprocessing.resample)
        image_CHW = reflection_padded(pixels_HWC.transpose(2, 0, 1), size)
        top, left = (int(draw.integers(length - size + 1)) for length in image_CHW.shape[1:])
        crop_CSS = image_CHW[:, top : top + size, left : left + size]
        if self._flip and draw.random() < 0.5:
            crop_CSS = crop_CSS[..., ::-1]
        return np.ascontiguousarray(crop_CSS)

    def _degraded(
        self, pixels_HWC: Bytes, label: float, draw: np.random.Generator
    ) -> tuple[Bytes, float]:
        """A photo degraded once, or twice in a row, and the label that people would give it."""
        assert self._cells is not None
        steps = [self._cells.draw(draw, often=self._config.often)]
        if draw.random() < self._config.sequences:
            steps.append(self._cells.draw(draw, among=_SECOND))
        for step in steps:
            seed = int(draw.integers(1 << 32))
            pixels_HWC = distort(pixels_HWC, step.kind, step.strength, seed)
        # The second degradation acts on what the first one left: multiply the shares.
        kept = float(np.prod([step.kept for step in steps]))
        return pixels_HWC, lowered(label, kept, self._config.floor)


def _smaller(pixels_HWC: Bytes, draw: np.random.Generator) -> Bytes:
    scale = float(draw.choice(_SMALLER))
    height, width = (max(16, round(side * scale)) for side in pixels_HWC.shape[:2])
    if height >= pixels_HWC.shape[0] or width >= pixels_HWC.shape[1]:
        return pixels_HWC
    return resized(pixels_HWC, (height, width))


def _framed(pixels_HWC: Bytes, draw: np.random.Generator) -> Bytes:
    """A plain frame around the photo, black, white, gray or of any one color."""
    height, width = pixels_HWC.shape[:2]
    band = max(1, round(min(height, width) * draw.uniform(0.005, _FRAME)))
    plain = int(draw.integers(4))
    color = draw.integers(256, size=3) if plain == 3 else np.full(3, (0, 255, 128)[plain])
    framed = np.empty((height + 2 * band, width + 2 * band, 3), np.uint8)
    framed[:] = color
    framed[band:-band, band:-band] = pixels_HWC
    return framed


def _view(pixels_HWC: Bytes, share: float, draw: np.random.Generator) -> Bytes:
    """A random view with this share of each side."""
    height, width = (max(1, round(side * share)) for side in pixels_HWC.shape[:2])
    top = int(draw.integers(pixels_HWC.shape[0] - height + 1))
    left = int(draw.integers(pixels_HWC.shape[1] - width + 1))
    return pixels_HWC[top : top + height, left : left + width]
