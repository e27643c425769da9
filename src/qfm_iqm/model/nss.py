"""Natural scene statistics of a crop, and what they say of its quality.

Photos of the world share statistics that blur, noise and coding change, each in its own way
(Ruderman, 1994). As in BRISQUE (Mittal, Moorthy and Bovik, 2012), pixels are normalised by the mean
and the deviation around them, and the shapes of their distribution and of their neighbours'
products are measured; here by plain moments in place of fitted densities, in one grey and two
opponent colours (Hasler and Suesstrunk, 2003), at three scales. Nothing is learned in this, and
so it says the same of photos unlike any that were trained on.

`NSSRegressor` predicts quality beside encoder and decoder. Those see what is shown, and learn
what people like of it; this one sees grain, edges and codes, and needs few labels.

Shapes: B crops, S crop size, C channels, H and W pixels, F statistics.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_SCALES = 3
_FLOOR = 1 / 255  # below it a deviation is one of rounding
_ROUNDING = _FLOOR**2 / 12  # variance of what rounding to 8 bits does
_LEAST = 1e-4  # what moments are raised by, so that flat crops have logarithms too
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
_FAR = 5.0  # standard deviations
_MOMENTS = 7 + 4 * len(_NEIGHBOURS)  # of one channel at one scale
_EDGE = 7  # the middle at full size leaves out such a part of the side on each side


class SceneStatistics(nn.Module):
    """Crops to their statistics: three scales of grey, two of the opponent colours.

    At full size only the middle is measured, 160 of 224 pixels, which is half the work: crops that
    cover a photo overlap, and their middles leave little of it out. Whole crops at half and
    at a quarter of the size take as much again.

    Attributes:
        count: F.
    """

    count = 6 + _MOMENTS * (3 * _SCALES - 2)

    def forward(self, crops_BCSS: Tensor) -> Tensor:
        """Measures crops.

        Args:
            crops_BCSS: RGB crops (B, 3, S, S) in [0, 1].

        Returns:
            (B, F): mean and log deviation, at half the size, of grey, red against green, yellow
            against blue; then for each scale and channel the mean, deviation and skewness of the
            log local deviation, the means of the normalised pixels' products with four neighbours,
            and log moments: absolute, second and fourth of the normalised pixels, the mean of the
            local deviation, and for each neighbour the absolute, and the second of the positive
            and of the negative products.
        """
        edge = crops_BCSS.shape[-1] // _EDGE
        middle = crops_BCSS[..., edge:-edge, edge:-edge]
        found = [_moments(_grey(middle))]
        for scale in range(1, _SCALES):
            crops_BCSS = functional.avg_pool2d(crops_BCSS, 2)
            channels = _opponent(crops_BCSS)
            if scale == 1:
                level = channels.mean((2, 3))
                around = channels - level[..., None, None]
                found = [level, _log(_square(around).mean((2, 3))), *found]
            found.append(_moments(channels))
        return torch.cat(found, 1)


def _grey(pixels_BCHW: Tensor) -> Tensor:
    red, green, blue = pixels_BCHW.split(1, 1)
    grey: Tensor = 0.299 * red + 0.587 * green + 0.114 * blue
    return grey


def _opponent(pixels_BCHW: Tensor) -> Tensor:
    """RGB to grey, red against green, yellow against blue."""
    red, green, blue = pixels_BCHW.split(1, 1)
    return torch.cat([_grey(pixels_BCHW), red - green, (red + green) / 2 - blue], 1)


def _moments(channels_BCHW: Tensor) -> Tensor:
    """Of each channel (B, C * M)."""
    channels, height, width = channels_BCHW.shape[1:]
    planes = channels_BCHW.reshape(-1, 1, height, width)
    planes = planes - planes.mean((2, 3), keepdim=True)
    mean, deviation = _around(planes)
    normal = (planes - mean) / (deviation + _FLOOR)
    square = _square(normal)
    local = (deviation / _FLOOR + 1).log()
    level = _mean(local)
    around = local - level[:, None, None, None]
    square_around = _square(around)
    spread = _mean(square_around)
    skew = _mean(around * square_around) / (spread + 0.01) ** 1.5
    plain = [level, (spread + 1e-6).sqrt(), skew]
    logarithmic = [
        _mean(normal.abs()),
        _mean(square),
        _mean(_square(square)),
        _mean(deviation) / _FLOOR,
    ]
    for down, right in _NEIGHBOURS:
        one = normal[..., down:, max(right, 0) : width + min(right, 0)]
        other = normal[..., : height - down, max(-right, 0) : width - max(right, 0)]
        product = one * other
        positive = product.relu()
        negative = positive - product
        above, below = _mean(positive), _mean(negative)
        plain.append(above - below)
        logarithmic += [
            above + below,
            _mean(_square(positive)),
            _mean(_square(negative)),
        ]
    moments_PM = torch.cat([torch.stack(plain, 1), _log(torch.stack(logarithmic, 1))], 1)
    moments_BM: Tensor = moments_PM.reshape(-1, channels * _MOMENTS)
    return moments_BM


def _around(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation around each pixel, the border repeated.

    The weights are those of two averages of three by three: a bell of 1.15 pixels, where BRISQUE's
    has 1.17. A variance is at least that of rounding to 8 bits: as a difference of squares it would
    itself be rounding in flat parts, and another in each runtime. Planes have means of 0 for that.
    """
    padded = functional.pad(planes, (2,) * 4, mode="replicate")
    mean, square = _blurred(padded), _blurred(_square(padded))
    return mean, ((square - _square(mean)).relu() + _ROUNDING).sqrt()


def _blurred(planes: Tensor) -> Tensor:
    """Two averages of three by three; shifted planes are much quicker in torch than pooling."""
    for dim in (2, 2, 3, 3):
        size = planes.shape[dim] - 2
        one, two, three = (planes.narrow(dim, start, size) for start in range(3))
        planes = one + two + three
    return planes / 81


class NSSRegressor(nn.Module):
    """Crops to what their statistics say of them: a kernel regression (BRISQUE has one as well).

        q(x) = b + sum_m w_m exp(-2 |z - c_m|^2 / F),   z = (x - mean) / deviation, within 5

    `distill.nss_fit` fits it: none of this is learned step by step.

    Args:
        centres: M.
    """

    mean: Tensor
    deviation: Tensor
    centres: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(self, centres: int) -> None:
        super().__init__()
        self.measure = SceneStatistics()
        self.register_buffer("mean", torch.zeros(SceneStatistics.count))
        self.register_buffer("deviation", torch.ones(SceneStatistics.count))
        self.register_buffer("centres", torch.zeros(centres, SceneStatistics.count))
        self.register_buffer("weights", torch.zeros(centres))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, crops_BCSS: Tensor) -> Tensor:
        """Crops (B, 3, S, S) in [0, 1] to qualities (B,), in standard deviations of labels."""
        return self.predict(self.measure(crops_BCSS))

    def predict(self, statistics_BF: Tensor) -> Tensor:
        """Statistics (B, F) to qualities (B,), in standard deviations of labels."""
        quality_B: Tensor = self.bias + self.kernel(self.standard(statistics_BF)) @ self.weights
        return quality_B

    def standard(self, statistics_BF: Tensor) -> Tensor:
        """Statistics (B, F) in deviations from the mean: z above."""
        # What is no photo lies far outside, and how far says nothing more.
        return ((statistics_BF - self.mean) / self.deviation).clamp(-_FAR, _FAR)

    def kernel(self, standard_BF: Tensor) -> Tensor:
        """How near standardised statistics (B, F) are to each centre: (B, M) in [0, 1]."""
        squares = standard_BF.square().sum(1)[:, None] + self.centres.square().sum(1)
        products = functional.linear(standard_BF, self.centres)
        distance_BM = (squares - 2 * products).clamp(min=0)
        return (-2 * distance_BM / SceneStatistics.count).exp()


def _mean(planes: Tensor) -> Tensor:
    """Planes (P, 1, H, W) to their means (P,)."""
    return planes.mean((1, 2, 3))


def _log(moments: Tensor) -> Tensor:
    return (moments + _LEAST).log()


def _square(planes: Tensor) -> Tensor:
    """A product: runtimes take a power for any other."""
    return planes * planes
