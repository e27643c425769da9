"""Natural scene statistics of a crop, and what they say of its quality.

Photos of the world share statistics that blur, noise and coding change, each in its own way
(Ruderman, 1994). As in BRISQUE (Mittal, Moorthy and Bovik, 2012), pixels are normalised by the mean
and the deviation around them, and the shapes of their distribution and of their neighbours'
products are measured; here by plain moments in place of fitted densities, in one grey and two
opponent colours (Hasler and Suesstrunk, 2003), at three scales. Nothing is learned in this, and
so it says the same of photos unlike any that were trained on.

`StatisticsOpinion` is a second judge beside encoder and decoder. Those see what is shown, and learn
what people like of it; this one sees grain, edges and codes, and needs few labels.

Shapes: B crops, S crop size, C channels, H and W pixels, F statistics.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_SCALES = 3
_FLOOR = 1 / 255  # below it a deviation is one of rounding
_LEAST = 1e-4  # what moments are raised by, so that flat crops have logarithms too
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
_FAR = 5.0  # standard deviations
_MOMENTS = 7 + 4 * len(_NEIGHBOURS)  # of one channel at one scale


class SceneStatistics(nn.Module):
    """Crops to their statistics: three scales of grey, two of the opponent colours.

    Attributes:
        count: F.
    """

    count = 6 + _MOMENTS * (3 * _SCALES - 2)

    def forward(self, crops_BCSS: Tensor) -> Tensor:
        """Measures crops.

        Args:
            crops_BCSS: RGB crops (B, 3, S, S) in [0, 1].

        Returns:
            (B, F): mean and log deviation of grey, red against green, yellow against blue; then
            for each channel and scale log moments (absolute, second, fourth) of the normalised
            pixels, of their products with four neighbours the mean and log moments (absolute,
            second of the positive, of the negative), and of the log local deviation the mean,
            deviation and skewness, and the log mean of the deviation itself.
        """
        red, green, blue = crops_BCSS.split(1, 1)
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
        colours = torch.cat([red - green, (red + green) / 2 - blue], 1)
        channels = torch.cat([grey, colours], 1)
        mean_BC = channels.mean((2, 3))
        centred = channels - mean_BC[..., None, None]
        found = [mean_BC, _log(_square(centred).mean((2, 3))), self._moments(grey).flatten(1)]
        for _ in range(_SCALES - 1):
            channels = functional.avg_pool2d(channels, 2)
            found.append(self._moments(channels).flatten(1))
        return torch.cat(found, 1)

    def _moments(self, channels_BCHW: Tensor) -> Tensor:
        """Of each channel (B, C, M)."""
        count, height, width = channels_BCHW.shape[1:]
        planes = channels_BCHW.reshape(-1, 1, height, width)
        mean, deviation = self._around(planes)
        normal = (planes - mean) / (deviation + _FLOOR)
        square = _square(normal)
        found = [_log(_mean(square)), _log(_mean(normal.abs())), _log(_mean(_square(square)))]
        for down, right in _NEIGHBOURS:
            one = normal[..., down:, max(right, 0) : width + min(right, 0)]
            other = normal[..., : height - down, max(-right, 0) : width - max(right, 0)]
            product = one * other
            positive = product.relu()
            negative = positive - product
            found += [
                _mean(product),
                _log(_mean(_square(positive))),
                _log(_mean(_square(negative))),
                _log(_mean(positive + negative)),
            ]
        local = (deviation / _FLOOR + 1).log()
        level = _mean(local)
        around = local - level[:, None, None, None]
        spread = _mean(_square(around))
        skew = _mean(around * _square(around)) / (spread + 0.01) ** 1.5
        found += [level, (spread + 1e-6).sqrt(), skew, _log(_mean(deviation) / _FLOOR)]
        moments_BCM: Tensor = torch.stack(found, 1).unflatten(0, (-1, count))
        return moments_BCM

    @staticmethod
    def _around(planes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation around each pixel, the border repeated.

        The weights are those of two averages of three by three: a bell of 1.15 pixels, where
        BRISQUE's has 1.17. Sums of shifted planes are much quicker in torch than pooling. What
        three neighbours add to the variance is taken from their differences: as a difference of
        squares it would be rounding in flat parts, and another in each runtime.
        """
        total = functional.pad(planes, (2,) * 4, mode="replicate")
        variance: Tensor | None = None
        for dim in (2, 2, 3, 3):
            left, middle, right = _thirds(total, dim)
            between = _square(left - middle) + _square(right - middle) + _square(left - right)
            if variance is not None:
                one, two, three = _thirds(variance, dim)
                between = between + 3 * (one + two + three)
            total, variance = left + middle + right, between
        assert variance is not None
        return total / 81, variance.sqrt() / 81


class StatisticsOpinion(nn.Module):
    """Crops to what their statistics say of them: a kernel regression (BRISQUE has one as well).

        q(x) = b + sum_m w_m exp(-2 |z - c_m|^2 / F),   z = (x - mean) / deviation, within 5

    `training.opinion` fits it: none of this is learned step by step.

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
        return self.judge(self.measure(crops_BCSS))

    def judge(self, statistics_BF: Tensor) -> Tensor:
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
        distance_BM = (squares - 2 * standard_BF @ self.centres.T).clamp(min=0)
        return (-2 * distance_BM / SceneStatistics.count).exp()


def _mean(planes: Tensor) -> Tensor:
    return planes.mean((1, 2, 3))


def _log(moments: Tensor) -> Tensor:
    return (moments + _LEAST).log()


def _square(planes: Tensor) -> Tensor:
    """A product: runtimes take a power for any other."""
    return planes * planes


def _thirds(planes: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Planes moved by none, one and two pixels, as far as all three are there."""
    size = planes.shape[dim] - 2
    return planes.narrow(dim, 0, size), planes.narrow(dim, 1, size), planes.narrow(dim, 2, size)
