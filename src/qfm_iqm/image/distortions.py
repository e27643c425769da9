"""Known degradations at five strengths: for demonstrations, diagnostics and training.

Pure functions: the same image and arguments give the same result, nothing is drawn from a global
random state. Images are RGB float tensors (C, H, W) in [0, 1] of any size from 1x1 on, and so
are the results.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from qfm_iqm.image.decode import read_image

DISTORTIONS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "blur": (0.6, 1.0, 1.7, 2.9, 5.0),
        "jpeg": (60, 35, 20, 10, 4),
        "jpeg2000": (20, 45, 90, 180, 360),
        "noise": (0.02, 0.04, 0.07, 0.12, 0.20),
        "contrast": (0.85, 0.70, 0.50, 0.30, 0.15),
        "resample": (1.5, 2, 3, 5, 8),
    }
)
"""The strengths of level 1 (just visible) to level 5 (severe), by name.

Blur: sigma in pixels. JPEG: quality. JPEG 2000: rate of compression. Noise: sigma for values in
[0, 1]. Contrast: factor. Resample: reduction of each side. Chosen here, in roughly even steps of
visibility; five levels a kind as in KADID-10k (Lin et al., 2019), but not that set's parameters, so
that none of its scores belongs to one of these levels.
"""


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blurs with a Gaussian, cut at four sigma; the border is mirrored, edge pixel included.

    Args:
        image: (C, H, W) in [0, 1].
        sigma: standard deviation in pixels; 0 changes nothing.

    Returns:
        The blurred image.

    Raises:
        ValueError: `sigma` is negative.
    """
    if not sigma >= 0:
        raise ValueError(f"sigma must be at least 0, not {sigma}")
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return image.clone()
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).to(image)
    blurred = _along_rows(image, weights)
    return _along_rows(blurred.mT, weights).mT.contiguous().clamp(0, 1)


def jpeg(image: Tensor, quality: int) -> Tensor:
    """Encodes as JPEG (4:2:0) and decodes again.

    Args:
        image: RGB (3, H, W) in [0, 1]; rounded to 8 bits first.
        quality: libjpeg's quality, 1 (worst) to 100.

    Returns:
        The decoded image.

    Raises:
        ValueError: `quality` is out of range.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be in 1..100, not {quality}")
    return _recoded(image, "JPEG", quality=quality, subsampling="4:2:0")


def jpeg2000(image: Tensor, rate: float) -> Tensor:
    """Encodes as JPEG 2000 (irreversible wavelet, one layer) and decodes again.

    Args:
        image: RGB (3, H, W) in [0, 1]; rounded to 8 bits first.
        rate: bits of the pixels (24 each) per bit of the file; 1 is as good as it gets.

    Returns:
        The decoded image.

    Raises:
        ValueError: `rate` is below 1.
    """
    if not rate >= 1:
        raise ValueError(f"rate must be at least 1, not {rate}")
    return _recoded(
        image, "JPEG2000", quality_mode="rates", quality_layers=[rate], irreversible=True
    )


def gaussian_noise(image: Tensor, sigma: float, seed: int) -> Tensor:
    """Adds white Gaussian noise, independent for each pixel and colour, and clips.

    Args:
        image: (C, H, W) in [0, 1].
        sigma: standard deviation before clipping.
        seed: the noise depends on it, on `sigma` and on the shape, on nothing else.

    Returns:
        The noisy image.

    Raises:
        ValueError: `sigma` is negative.
    """
    if not sigma >= 0:
        raise ValueError(f"sigma must be at least 0, not {sigma}")
    # Drawn on the CPU in float32, so that every device and precision gets the same noise.
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(image.shape, generator=generator)
    return (image + sigma * noise.to(image)).clamp(0, 1)


def contrast(image: Tensor, factor: float) -> Tensor:
    """Scales the distance from the image's mean value, and clips.

    Args:
        image: (C, H, W) in [0, 1].
        factor: below 1 lowers contrast, 0 leaves a flat grey, above 1 raises it.

    Returns:
        The changed image.

    Raises:
        ValueError: `factor` is negative.
    """
    if not factor >= 0:
        raise ValueError(f"factor must be at least 0, not {factor}")
    mean = image.mean()
    return (mean + factor * (image - mean)).clamp(0, 1)


def down_up(image: Tensor, factor: float) -> Tensor:
    """Reduces by area averaging and enlarges to the old size bicubically: lost resolution.

    Args:
        image: (C, H, W) in [0, 1].
        factor: by how much each side shrinks, to no less than one pixel.

    Returns:
        The image at its old size.

    Raises:
        ValueError: `factor` is below 1.
    """
    if not factor >= 1:
        raise ValueError(f"factor must be at least 1, not {factor}")
    size = (image.shape[-2], image.shape[-1])
    rows, columns = (_area_averages(side, max(1, round(side / factor))) for side in size)
    reduced = rows.to(image) @ image @ columns.to(image).mT
    return functional.interpolate(reduced[None], size, mode="bicubic")[0].clamp(0, 1)


def distort(image: Tensor, name: str, level: int, seed: int = 0) -> Tensor:
    """Applies one of `DISTORTIONS` at one of its strengths.

    Args:
        image: RGB (3, H, W) in [0, 1].
        name: a key of `DISTORTIONS`.
        level: 1 (just visible) to 5 (severe).
        seed: of the noise; the other kinds do not draw.

    Returns:
        The degraded image, same shape, in [0, 1].

    Raises:
        ValueError: unknown name or level.
    """
    if name not in DISTORTIONS:
        raise ValueError(f"no distortion named {name!r}; choose one of {', '.join(DISTORTIONS)}")
    strengths = DISTORTIONS[name]
    if level not in range(1, len(strengths) + 1):
        raise ValueError(f"no level {level!r}; choose one of 1..{len(strengths)}")
    apply: Mapping[str, Callable[[float], Tensor]] = {
        "blur": lambda sigma: gaussian_blur(image, sigma),
        "jpeg": lambda quality: jpeg(image, int(quality)),
        "jpeg2000": lambda rate: jpeg2000(image, rate),
        "noise": lambda sigma: gaussian_noise(image, sigma, seed),
        "contrast": lambda factor: contrast(image, factor),
        "resample": lambda factor: down_up(image, factor),
    }
    return apply[name](strengths[level - 1])


def _recoded(image: Tensor, codec: str, **options: Any) -> Tensor:
    """An image (3, H, W) in 8 bits, through one of Pillow's encoders and back."""
    pixels = (image.detach() * 255).round().clamp(0, 255).to(torch.uint8)
    encoded = io.BytesIO()
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())
    picture.save(encoded, codec, **options)
    return read_image(encoded.getvalue(), max_pixels=picture.width * picture.height).to(image)


def _area_averages(old: int, new: int) -> Tensor:
    """The matrix (new, old) that averages `old` pixels in `new` equal parts.

    A pixel that two parts share counts in each by its share; torch's "area" gives it to both whole,
    and so blurs more than it should where `new` does not divide `old`.
    """
    edges = torch.arange(new + 1, dtype=torch.float64) * (old / new)
    pixels = torch.arange(old)
    shared = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return shared.clamp(min=0) * (new / old)


def _along_rows(image: Tensor, weights: Tensor) -> Tensor:
    """Convolves the last axis, mirrored (edge included) as often as a short side needs."""
    length, radius = image.shape[-1], len(weights) // 2
    position = torch.arange(-radius, length + radius, device=image.device) % (2 * length)
    rows = image[..., torch.minimum(position, 2 * length - 1 - position)]
    flat = rows.reshape(math.prod(rows.shape[:-1]), 1, rows.shape[-1])
    return functional.conv1d(flat, weights[None, None]).reshape(image.shape)
