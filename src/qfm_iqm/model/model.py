"""The quality model of the public API: a network, its preprocessing and its card.

Shapes: B images, C channels, H and W pixels, K crops per image, S crop size.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from qfm_iqm.arrays import Doubles
from qfm_iqm.causes.network import load_causes
from qfm_iqm.causes.severity import Causes
from qfm_iqm.image.decode import Source, in_eight_bits
from qfm_iqm.image.pixel_features import pixel_statistics
from qfm_iqm.image.preprocess import working_size
from qfm_iqm.image.preprocess_torch import Pixels, checked_pixels, covering_crops, resize_and_pad
from qfm_iqm.image.resize import as_floats, read_resized
from qfm_iqm.model.card import ModelCard
from qfm_iqm.model.forking import keep_forks_able
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.model.prediction import QualityScore, score_of
from qfm_iqm.model.quality_map import QualityMap, cells, regions
from qfm_iqm.model.reference import Curve


class QualityModel(nn.Module):
    """A network, its preprocessing and its card.

    Calling it on a batch of images is differentiable, so it can be used as a loss. `score` takes
    one image from any source; `qfm_iqm.scoring` scores many.

    It stays in evaluation mode when an enclosing module is set to training mode; otherwise batch
    norm would update its statistics and permanently change scores. `network` is an ordinary module:
    `model.network.train()` sets it to training mode.

    Args:
        network: maps crops to qualities.
        card: holds the preprocessing and the units of scores.

    Examples:
        >>> from qfm_iqm import load_model
        >>> scores = load_model()(torch.rand(2, 3, 300, 400, requires_grad=True))
        >>> scores.shape, scores.requires_grad
        (torch.Size([2]), True)
    """

    def __init__(self, network: QualityNetwork, card: ModelCard) -> None:
        super().__init__()
        self.network = network
        self.card = card

    def train(self, mode: bool = True) -> Self:
        """Keeps evaluation mode, whatever `mode` is; see the class."""
        return super().train(False)

    def forward(self, images_BCHW: Pixels) -> Tensor:
        """Scores a batch of images of equal size, with gradients.

        Args:
            images_BCHW: RGB images: a tensor (B, 3, H, W) or an array (B, H, W, 3), floats in
                [0, 1] of any precision or uint8. Values outside the range by at most `OVERSHOOT`
                (`image.preprocess_torch`) are clamped, and get no gradient.

        Returns:
            Scores (B,) in label units: the mean over each image's covering crops, calibrated if
            the card has a calibration.

        Raises:
            TypeError: the images are neither a tensor nor an array.
            ValueError: their shape or type is wrong, or values are not finite or out of range.
        """
        if not torch.compiler.is_compiling():
            keep_forks_able()
        wanted = "a batch (B, 3, H, W), or an array (B, H, W, 3)"
        images_BCHW = checked_pixels(images_BCHW, "images", wanted, dimensions=4)
        crops_KBCSS = torch.stack(list(self.crops(images_BCHW)))
        scores: Tensor = self.network(self._placed(crops_KBCSS.flatten(0, 1)))
        scores = scores.reshape(crops_KBCSS.shape[:2]).mean(0)
        calibration = self.card.calibration
        return scores if calibration is None else _bent(scores, calibration)

    def crops(self, image_CHW: Tensor) -> Iterator[Tensor]:
        """The crops that cover an image (or a batch of images of equal size), one by one."""
        resized_CHW = resize_and_pad(image_CHW, self.card.preprocessing)
        return covering_crops(resized_CHW, self.card.preprocessing)

    def statistics(self, resized_CHW: Tensor) -> Doubles | None:
        """A resized image's pixel statistics, if the card has an out-of-distribution detector."""
        reference = self.card.reference_statistics
        if reference is None or reference.ood_detector is None:
            return None
        return pixel_statistics(in_eight_bits(resized_CHW.cpu().numpy()))

    @torch.inference_mode()
    def score(self, image: Source | Pixels, *, batch_size: int = 32) -> QualityScore:
        """Scores one image.

        Args:
            image: a path, URL, bytes, file object or PIL image; or RGB pixels: a tensor (3, H, W)
                or an array (H, W, 3), floats in [0, 1] or uint8. Values outside the range by at
                most `OVERSHOOT` (`image.preprocess_torch`) are clamped.
            batch_size: crops per forward pass; does not change the score.

        Raises:
            ImageError: the image cannot be read.
            ValueError: the pixels have a wrong shape or type, or values that are not finite or
                out of range; or `batch_size` is below 1.
        """
        resized_CHW, height, width = self._resized(image)
        crops = covering_crops(resized_CHW, self.card.preprocessing)
        return score_of(
            self.card,
            self._answers(crops, batch_size),
            width=width,
            height=height,
            statistics=self.statistics(resized_CHW),
        )

    @torch.inference_mode()
    def explain(self, image: Source | Pixels, *, batch_size: int = 32) -> QualityMap:
        """Computes a map of where an image is good and where it is bad (`model.quality_map`).

        Arguments and errors are those of `score`.
        """
        resized_CHW, height, width = self._resized(image)
        preprocessing = self.card.preprocessing
        size = preprocessing.crop
        length = working_size(height, width, preprocessing)
        parts = regions(*length, size)
        values_K = self._answers(covering_crops(resized_CHW, preprocessing), batch_size)
        values_TL = self._answers(parts.crops(resized_CHW, size), batch_size)
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

    def causes(self, image: Source | Pixels) -> Causes:
        """Estimates what lowers quality: blur, noise, compression, exposure, contrast, color.

        The image and errors are those of `score`.
        """
        network = load_causes()
        if isinstance(image, Tensor | np.ndarray):
            pixels_CHW = in_eight_bits(_as_read(image).numpy())
            image = Image.fromarray(pixels_CHW.transpose(1, 2, 0))
        source, name = _fetched(image)
        found = read_resized(source, self.card.preprocessing, name=name, viewed=True)
        assert found.views is not None
        return network.causes(network(found.views))

    def _resized(self, image: Source | Pixels) -> tuple[Tensor, int, int]:
        """An image from any source at its working size, with its original height and width."""
        preprocessing = self.card.preprocessing
        if isinstance(image, Tensor | np.ndarray):
            image_CHW = _as_read(image)
            height, width = image_CHW.shape[-2:]
            return resize_and_pad(image_CHW, preprocessing), height, width
        source, name = _fetched(image)
        found = read_resized(source, preprocessing, name=name)
        return torch.from_numpy(as_floats(found.pixels)), found.height, found.width

    def _placed(self, crops_BCSS: Tensor) -> Tensor:
        """Moves crops to the network's device and dtype."""
        return crops_BCSS.to(self.network.scale.mean)

    def _answers(self, crops: Iterable[Tensor], batch_size: int) -> Doubles:
        """The network's predictions (K,) for crops, batch by batch, in evaluation mode."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        keep_forks_able()
        coming = iter(crops)
        training = self.network.training
        self.network.eval()
        values = []
        try:
            while batch := list(islice(coming, batch_size)):
                values.append(self.network(self._placed(torch.stack(batch))).cpu())
        finally:
            self.network.train(training)
        return np.asarray(torch.cat(values).double().numpy())


def _as_read(image: Pixels) -> Tensor:
    """A caller's pixels (3, H, W), on the CPU like those of files, to be reduced in 8 bits."""
    wanted = "an RGB tensor (3, H, W), or an array (H, W, 3)"
    return checked_pixels(image, "image", wanted, dimensions=3).detach().cpu()


def _fetched(image: Source) -> tuple[Source, str | None]:
    """The source to read, and its display name if that differs."""
    if isinstance(image, str) and "://" in image:
        from qfm_iqm.image.load import fetch  # imported here: local photos do not need it

        return fetch(image), image
    return image, None


def _bent(values_B: Tensor, curve: Curve) -> Tensor:
    """Evaluates a calibration curve at values (B,), with gradients."""
    x, y = (torch.tensor(knots).to(values_B) for knots in (curve.x, curve.y))
    if len(x) == 1:
        return y + 0 * values_B
    place_B = torch.searchsorted(x, values_B.detach()).clamp(1, len(x) - 1)
    share_B = ((values_B - x[place_B - 1]) / (x[place_B] - x[place_B - 1])).clamp(0, 1)
    return y[place_B - 1] + share_B * (y[place_B] - y[place_B - 1])
