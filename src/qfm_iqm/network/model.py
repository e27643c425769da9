"""A quality model: a network with the way images reach it and a card; what users hold.

Shapes: B images, C channels, H and W pixels, K crops per image, S crop size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from qfm_iqm.image.cropping import covering_crops, fit, grid_positions, working_size
from qfm_iqm.image.reading import Source, read_image
from qfm_iqm.network.card import ModelCard
from qfm_iqm.network.explaining import QualityMap, assemble, local_answers
from qfm_iqm.network.quality import QualityNetwork


@dataclass(frozen=True)
class QualityScore:
    """How good an image looks.

    Attributes:
        value: the score, in the model's label units: the mean over the covering crops.
        spread: standard deviation of the crops' scores (0 for a single crop).
        n_crops: how many crops cover the image.
        width: of the image in pixels, upright.
        height: of the image in pixels, upright.
    """

    value: float
    spread: float
    n_crops: int
    width: int
    height: int


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
            Scores (B,) in label units: each the mean over the image's covering crops.
        """
        _check_pixels(images_BCHW, "images", "a batch (B, 3, H, W)", dimensions=4)
        crops_KBCSS = torch.stack(list(self.crops(images_BCHW)))
        scores: Tensor = self.network(crops_KBCSS.flatten(0, 1))
        return scores.reshape(crops_KBCSS.shape[:2]).mean(0)

    def crops(self, image_CHW: Tensor) -> Iterator[Tensor]:
        """The crops that cover an image (or a batch of equally large ones), one by one."""
        fitted = fit(image_CHW, self.card.preprocessing)
        return covering_crops(fitted, self.card.preprocessing.crop)

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
        image_CHW = _pixels(image)
        crops = self.crops(image_CHW)
        (values,) = self._in_batches(crops, batch_size, lambda t: (self.network.decode(t),))
        values = values.double()
        height, width = image_CHW.shape[-2:]
        return QualityScore(
            value=values.mean().item(),
            spread=values.std(correction=0).item(),
            n_crops=len(values),
            width=width,
            height=height,
        )

    @torch.inference_mode()
    def explain(self, image: Source | Tensor, *, batch_size: int = 32) -> QualityMap:
        """Says where one image is good and where it is bad (`network.explaining`).

        Args:
            image: a path, bytes, file object or PIL image, or an RGB tensor (3, H, W) in [0, 1].
            batch_size: crops that go through the network at once; does not change the map.

        Raises:
            ImageError: the image cannot be read.
            ModelError: the backbone's tokens are no square grid.
            ValueError: the tensor is not of that shape, or holds no floating-point numbers.
        """
        image_CHW = _pixels(image)
        height, width = image_CHW.shape[-2:]
        preprocessing = self.card.preprocessing
        fitted_CHW = fit(image_CHW, preprocessing)

        def look(tokens_BND: Tensor) -> tuple[Tensor, Tensor]:
            return self.network.decode(tokens_BND), local_answers(self.network, tokens_BND)

        crops = covering_crops(fitted_CHW, preprocessing.crop)
        values_K, answers_Khh = self._in_batches(crops, batch_size, look)
        score = values_K.double().mean().item()
        values_RC = assemble(
            answers_Khh.double().numpy(),
            grid_positions(*fitted_CHW.shape[-2:], preprocessing.crop),
            preprocessing.crop,
            working_size(height, width, preprocessing),
        )
        values_RC += score - values_RC.mean()
        return QualityMap(values_RC.astype(np.float32), score, width, height)

    def _in_batches(
        self,
        crops: Iterable[Tensor],
        batch_size: int,
        look: Callable[[Tensor], tuple[Tensor, ...]],
    ) -> list[Tensor]:
        """Encodes crops batch by batch, in evaluation mode, and joins what `look` makes of them."""
        crops = list(crops)  # views: no pixel is copied yet
        device = self.network.scale.mean.device
        training = self.training
        self.eval()
        found = [
            look(self.network.encode(torch.stack(crops[i : i + batch_size]).to(device)))
            for i in range(0, len(crops), batch_size)
        ]
        self.train(training)
        return [torch.cat(parts).cpu() for parts in zip(*found, strict=True)]


def _pixels(image: Source | Tensor) -> Tensor:
    """An image from anywhere as an RGB tensor (3, H, W)."""
    image_CHW = image if isinstance(image, Tensor) else read_image(image)
    _check_pixels(image_CHW, "image", "an RGB tensor (3, H, W)", dimensions=3)
    return image_CHW


def _check_pixels(pixels: Tensor, name: str, wanted: str, *, dimensions: int) -> None:
    """Refuses tensors that would be scored wrongly without a word."""
    shape = tuple(pixels.shape)
    if len(shape) != dimensions or shape[-3] != 3 or 0 in shape or not pixels.is_floating_point():
        raise ValueError(
            f"{name} must be {wanted} of floating-point numbers in [0, 1], "
            f"not {shape} of {pixels.dtype}"
        )
