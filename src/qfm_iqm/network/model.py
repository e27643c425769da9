"""A quality model: a network with the way images reach it and a card; what users hold.

Shapes: B images, C channels, H and W pixels, K crops per image, S crop size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from qfm_iqm.image.cropping import Preprocessing, working_size
from qfm_iqm.image.fitting import as_floats, read_fitted
from qfm_iqm.image.reading import Source, in_eight_bits
from qfm_iqm.image.statistics import pixel_statistics
from qfm_iqm.image.tensors import covering_crops, fit
from qfm_iqm.network.card import ModelCard
from qfm_iqm.network.explaining import QualityMap, cells, regions
from qfm_iqm.network.forking import keep_forks_able
from qfm_iqm.network.meaning import Curve
from qfm_iqm.network.quality import QualityNetwork
from qfm_iqm.network.score import QualityScore, score_of


class QualityModel(nn.Module):
    """A network, its preprocessing and its card.

    Called on a batch of images it is a differentiable function, usable as a loss; `score`
    takes one image from anywhere. `qfm_iqm.scoring` scores many.

    Args:
        network: crops in, qualities out.
        card: says how images become crops, and in what units scores are.
    """

    def __init__(self, network: QualityNetwork, card: ModelCard) -> None:
        super().__init__()
        self.network = network
        self.card = card

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Scores a batch of equally large images, with gradients.

        Args:
            images_BCHW: RGB images (B, 3, H, W) in [0, 1].

        Returns:
            Scores (B,) in label units: each the mean over the image's covering crops, through the
            card's calibration if it has one.
        """
        keep_forks_able()
        _check_pixels(images_BCHW, "images", "a batch (B, 3, H, W)", dimensions=4)
        crops_KBCSS = torch.stack(list(self.crops(images_BCHW)))
        scores: Tensor = self.network(crops_KBCSS.flatten(0, 1))
        scores = scores.reshape(crops_KBCSS.shape[:2]).mean(0)
        calibration = self.card.calibration
        return scores if calibration is None else _bent(scores, calibration)

    def crops(self, image_CHW: Tensor) -> Iterator[Tensor]:
        """The crops that cover an image (or a batch of equally large ones), one by one."""
        fitted = fit(image_CHW, self.card.preprocessing)
        return covering_crops(fitted, self.card.preprocessing)

    def statistics(self, fitted_CHW: Tensor) -> npt.NDArray[np.float64] | None:
        """A fitted image's pixel statistics, if the card asks for them."""
        meaning = self.card.meaning
        if meaning is None or meaning.usual is None:
            return None
        return pixel_statistics(in_eight_bits(fitted_CHW.cpu().numpy()))

    @torch.inference_mode()
    def score(self, image: Source | Tensor, *, batch_size: int = 32) -> QualityScore:
        """Scores one image.

        Args:
            image: a path, bytes, file object or PIL image, or an RGB tensor (3, H, W) in [0, 1].
            batch_size: crops that go through the network at once; does not change the score.

        Raises:
            ImageError: the image cannot be read.
            ValueError: the tensor is not of that shape, or holds no floating-point numbers.
        """
        preprocessing = self.card.preprocessing
        fitted_CHW, height, width = _fitted(image, preprocessing)
        crops = covering_crops(fitted_CHW, preprocessing)
        return score_of(
            self.card,
            self._answers(crops, batch_size),
            width=width,
            height=height,
            statistics=self.statistics(fitted_CHW),
        )

    @torch.inference_mode()
    def explain(self, image: Source | Tensor, *, batch_size: int = 32) -> QualityMap:
        """Says where one image is good and where it is bad (`network.explaining`).

        Args:
            image: a path, bytes, file object or PIL image, or an RGB tensor (3, H, W) in [0, 1].
            batch_size: crops that go through the network at once; does not change the map.

        Raises:
            ImageError: the image cannot be read.
            ValueError: the tensor is not of that shape, or holds no floating-point numbers.
        """
        preprocessing, size = self.card.preprocessing, self.card.preprocessing.crop
        fitted_CHW, height, width = _fitted(image, preprocessing)
        length = working_size(height, width, preprocessing)
        parts = regions(*length, size)
        values_K = self._answers(covering_crops(fitted_CHW, preprocessing), batch_size)
        values_TL = self._answers(parts.crops(fitted_CHW, size), batch_size)
        values_RC = parts.spread(
            values_TL.reshape(len(parts.tops), len(parts.lefts)),
            length,
            (
                cells(length[0], size, self.network.encoder.patches),
                cells(length[1], size, self.network.encoder.patches),
            ),
        )
        values_RC += values_K.mean() - values_RC.mean()
        calibration, label = self.card.calibration, self.card.label
        if calibration is not None:
            values_RC = calibration(values_RC)
        score = score_of(self.card, values_K, width=width, height=height).value
        shown_RC = np.vectorize(label.show, otypes=[np.float32])(values_RC)
        return QualityMap(shown_RC, score, width, height)

    def _answers(self, crops: Iterable[Tensor], batch_size: int) -> npt.NDArray[np.float64]:
        """The network's answers (K,) for crops, batch by batch, in evaluation mode."""
        keep_forks_able()
        coming = iter(crops)
        device = self.network.scale.mean.device
        training = self.training
        self.eval()
        values = []
        while batch := list(islice(coming, batch_size)):
            values.append(self.network(torch.stack(batch).to(device)).cpu())
        self.train(training)
        return np.asarray(torch.cat(values).double().numpy())


def _fitted(image: Source | Tensor, preprocessing: Preprocessing) -> tuple[Tensor, int, int]:
    """An image from anywhere at its working size (3, H, W), and the height and width it has."""
    if isinstance(image, Tensor):
        _check_pixels(image, "image", "an RGB tensor (3, H, W)", dimensions=3)
        return fit(image, preprocessing), *image.shape[-2:]
    found = read_fitted(image, preprocessing)
    return torch.from_numpy(as_floats(found.pixels)), found.height, found.width


def _bent(values_B: Tensor, curve: Curve) -> Tensor:
    """A calibration curve at values (B,), with gradients."""
    x, y = (torch.tensor(knots).to(values_B) for knots in (curve.x, curve.y))
    if len(x) == 1:
        return y + 0 * values_B
    place_B = torch.searchsorted(x, values_B.detach()).clamp(1, len(x) - 1)
    share_B = ((values_B - x[place_B - 1]) / (x[place_B] - x[place_B - 1])).clamp(0, 1)
    return y[place_B - 1] + share_B * (y[place_B] - y[place_B - 1])


def _check_pixels(pixels: Tensor, name: str, wanted: str, *, dimensions: int) -> None:
    """Refuses tensors that would be scored wrongly without a word."""
    shape = tuple(pixels.shape)
    if len(shape) != dimensions or shape[-3] != 3 or 0 in shape or not pixels.is_floating_point():
        raise ValueError(
            f"{name} must be {wanted} of floating-point numbers in [0, 1], "
            f"not {shape} of {pixels.dtype}"
        )
