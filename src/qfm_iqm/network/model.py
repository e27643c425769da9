"""A quality model: a network with the way images reach it and a card; what users hold.

Shapes: B images, C channels, H and W pixels, K crops per image, S crop size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qfm_iqm.image.cropping import covering_crops, fit
from qfm_iqm.image.reading import Source, read_image
from qfm_iqm.network.card import ModelCard
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
        image_CHW = image if isinstance(image, Tensor) else read_image(image)
        _check_pixels(image_CHW, "image", "an RGB tensor (3, H, W)", dimensions=3)
        crops = list(self.crops(image_CHW))  # views: no pixel is copied yet
        device = self.network.scale.mean.device
        training = self.training
        self.eval()
        values = torch.cat(
            [
                self.network(torch.stack(crops[i : i + batch_size]).to(device)).cpu()
                for i in range(0, len(crops), batch_size)
            ]
        ).double()
        self.train(training)
        height, width = image_CHW.shape[-2:]
        return QualityScore(
            value=values.mean().item(),
            spread=values.std(correction=0).item(),
            n_crops=len(values),
            width=width,
            height=height,
        )


def _check_pixels(pixels: Tensor, name: str, wanted: str, *, dimensions: int) -> None:
    """Refuses tensors that would be scored wrongly without a word."""
    shape = tuple(pixels.shape)
    if len(shape) != dimensions or shape[-3] != 3 or 0 in shape or not pixels.is_floating_point():
        raise ValueError(
            f"{name} must be {wanted} of floating-point numbers in [0, 1], "
            f"not {shape} of {pixels.dtype}"
        )
