"""The network that finds why a photo scores low: views in, severities out.

It computes fixed measures of the views; only the layers after them are learned. (A convolutional
trunk from random weights had learned next to nothing with as much computing: the energy of photos
lies in low frequencies, that of most faults in high ones.) Measures of each tile:

* the spectrum of 8 x 8 blocks, of luma and color, and of luma at half size: how strong each
  frequency is, how often it is nearly zero, and how sparse it is;
* how strong high frequencies are in flat regions, where they are noise;
* how much neighbors differ, in steps: noise, smoothness, too few levels and equal pixels;
* whether differences repeat every 2, 4, 8 or 16 pixels, at any phase: blocks, even if a codec has
  smoothed their edges, and color at half the resolution;
* how much is nearly black, and nearly white.

Measures of the whole photo: histograms of luma, saturation, chroma and RGB, and mean luma in cells.

A small MLP reads each tile. Its outputs are pooled by mean, deviation, maximum and minimum, since a
photo may be sharp in one place and smooth in another. Another MLP joins them with the whole photo.
For each cause it predicts a probability and a severity, and multiplies both.

Shapes: B photos, T tiles of one, N tiles of all, S side of a tile, F and G measures, 6 causes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from qfm_iqm.causes.severity import CAUSES

_POINTS = 20.0  # of severity per unit of the last layer's output
_SMALL = 0.3  # 8-bit levels; less counts as nothing
_STEPS = (0.5, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0)  # differences of neighbors, in levels
_ENDS = (1.0, 5.0, 15.0, 30.0)  # levels from black, and from white
_LUMA = (0.299, 0.587, 0.114)


def _basis() -> Tensor:
    """The orthonormal DCT basis of 8 x 8 pixels (64, 1, 8, 8), low frequencies first."""
    place = torch.arange(8, dtype=torch.float64)
    line = torch.cos(math.pi / 8 * (place[None] + 0.5) * place[:, None]) / 2
    line[0] /= math.sqrt(2)
    square = line[:, None, :, None] * line[None, :, None, :]
    order = torch.argsort((place[:, None] + place[None]).flatten(), stable=True)
    return square.reshape(64, 1, 8, 8)[order].float()


class TileMeasures(nn.Module):
    """Fixed measures of tiles, without learned weights."""

    basis: Tensor
    half_basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        basis = _basis()
        self.register_buffer("basis", basis[1:])
        # For luma at half size: the same as averaging 2 x 2 pixels first.
        halves = basis[1:].repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
        self.register_buffer("half_basis", halves)

    def forward(self, tiles_NSS3: Tensor) -> Tensor:
        """Measures (N, F) of tiles, uint8."""
        colors_N3SS = tiles_NSS3.permute(0, 3, 1, 2).float()
        luma_N1SS = _luma(colors_N3SS)
        blue_N1SS = 0.564 * (colors_N3SS[:, 2:] - luma_N1SS)
        red_N1SS = 0.713 * (colors_N3SS[:, :1] - luma_N1SS)
        planes_N3SS = torch.cat([luma_N1SS, blue_N1SS, red_N1SS], 1)
        measures = [
            *self._spectrum(luma_N1SS, self.basis, plain=True),
            *self._spectrum(blue_N1SS, self.basis[:27]),
            *self._spectrum(red_N1SS, self.basis[:27]),
            *self._spectrum(luma_N1SS, self.half_basis, plain=True),
            *_differences(planes_N3SS),
            *_differences(planes_N3SS.transpose(2, 3)),
            planes_N3SS.mean((2, 3)) / 64,
            *_ends(colors_N3SS.flatten(2)),
        ]
        return torch.cat(measures, 1)

    def _spectrum(self, plane_N1SS: Tensor, basis: Tensor, *, plain: bool = False) -> list[Tensor]:
        """How strong, how often near zero and how sparse each frequency is."""
        sizes_NFP = functional.conv2d(plane_N1SS, basis, stride=basis.shape[3]).flatten(2).abs()
        mean_NF = sizes_NFP.mean(2) + _SMALL
        logs_NF = mean_NF.log()
        bands = [sizes_NFP[:, first:last].mean(1) for first, last in _bands(len(basis) + 1)]
        bands_N3P = torch.stack(bands, 1)
        logs_N3P = (bands_N3P + _SMALL).log()
        measures = [
            logs_NF,
            (-sizes_NFP[:, 5:] / 2).exp().mean(2),
            (sizes_NFP.square().mean(2) + _SMALL**2).log() - 2 * logs_NF,
            # Minimum, maximum and deviation over blocks.
            logs_N3P.amin(2),
            logs_N3P.amax(2),
            _deviation(logs_N3P, 2),
        ]
        if plain:
            weights_N1P = (-bands_N3P[:, :1] / 4).exp() + 1e-4
            flat_N3 = (weights_N1P * bands_N3P).mean(2) / weights_N1P.mean(2)
            measures.append((flat_N3 + _SMALL).log())
        return measures


def _bands(number: int) -> list[tuple[int, int]]:
    """Ranges of low, middle and high frequencies, without the first."""
    return [(0, 9), (9, number // 2), (number // 2, number - 1)]


def _differences(planes_N3SS: Tensor) -> list[Tensor]:
    """Differences of horizontal neighbors: how large they are, and how they repeat."""
    first_N3SD = planes_N3SS[..., 1:] - planes_N3SS[..., :-1]
    sizes_N3SD = first_N3SD.abs()
    few_N3P = sizes_N3SD[..., ::2, :].flatten(2)  # enough to count
    steps = [few_N3P.clamp(max=step).mean(2) / step for step in _STEPS]
    second_N3SD = first_N3SD[..., 1:] - first_N3SD[..., :-1]
    third_N3SD = (second_N3SD[..., 1:] - second_N3SD[..., :-1]).abs()
    found = [torch.stack(steps, 2).flatten(1)]
    # Edges of blocks stand out; pixels within blocks are alike, filtered or not.
    for line_N3D, periods in (
        (third_N3SD.clamp(max=60).mean(2), (8, 4)),
        (sizes_N3SD.clamp(max=2).mean(2), (16, 8, 4, 2)),
    ):
        phases_N3R = line_N3D[..., :48].unflatten(2, (3, 16)).mean(2) + _SMALL / 3
        if periods[0] == 8:
            phases_N3R = line_N3D[..., :56].unflatten(2, (7, 8)).mean(2) + _SMALL
        for period in periods:
            phases_N3R = phases_N3R.unflatten(2, (-1, period)).mean(2)
            logs_N3R = phases_N3R.log()
            mean_N31 = logs_N3R.mean(2, keepdim=True)
            found.append(logs_N3R.amax(2) - mean_N31[..., 0])
            if period > 2:
                found.append(mean_N31[..., 0] - logs_N3R.amin(2))
                found.append(_deviation(logs_N3R, 2))
            if period == periods[0]:
                found.append(mean_N31[..., 0])
    return found


def _ends(colors_N3P: Tensor) -> list[Tensor]:
    """Extremes, and shares of pixels near black and near white, in all colors and in any."""
    least_NP, most_NP = colors_N3P.amin(1), colors_N3P.amax(1)
    found = [least_NP.amin(1), most_NP.amax(1), most_NP.amin(1), least_NP.amax(1)]
    for values_NP in (most_NP, 255 - most_NP, least_NP, 255 - least_NP):
        found += [1 - values_NP.clamp(max=end).mean(1) / end for end in _ENDS]
    return [torch.stack(found, 1)]


class WholeMeasures(nn.Module):
    """Fixed measures of whole photos, without learned weights."""

    def forward(self, whole_BHW3: Tensor) -> Tensor:
        """Measures (B, G) of whole photos, uint8."""
        values_B3P = whole_BHW3.permute(0, 3, 1, 2).float().flatten(2) / 255
        most_BP, least_BP = values_B3P.amax(1), values_B3P.amin(1)
        luma_BP = _luma(values_B3P)[:, 0]
        chroma_BP = most_BP - least_BP
        saturation_BP = chroma_BP / (most_BP + 0.02)
        measures = [
            _histogram(luma_BP[:, None], 20),
            _histogram(torch.stack([most_BP, least_BP, saturation_BP], 1), 12),
            _histogram(chroma_BP[:, None], 16),
            _histogram(values_B3P, 10),
        ]
        cells_B4 = functional.adaptive_avg_pool2d(luma_BP.unflatten(1, (64, 64))[:, None], 4)
        measures.append(cells_B4.flatten(1))
        kinds_B5P = torch.cat([torch.stack([luma_BP, chroma_BP], 1), values_B3P], 1)
        measures += [kinds_B5P.mean(2), _deviation(kinds_B5P, 2)]
        return torch.cat(measures, 1)


def _luma(colors: Tensor) -> Tensor:
    red, green, blue = (colors[:, i : i + 1] for i in range(3))
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _histogram(values_BCP: Tensor, bins: int) -> Tensor:
    """Square roots of a soft histogram of values in [0, 1], with evenly spaced levels.

    A value counts for the two levels around it, more for the nearer one. Such a share is the second
    difference of the mean amount by which values exceed a level.
    """
    levels = torch.linspace(-1, bins, bins + 2, device=values_BCP.device) / (bins - 1)
    above_BCF = torch.maximum(values_BCP[:, :, None], levels[:, None]).mean(3) - levels
    shares = above_BCF[..., 2:] - 2 * above_BCF[..., 1:-1] + above_BCF[..., :-2]
    return ((shares * (bins - 1)).clamp(min=0) + 1e-4).sqrt().flatten(1)


def _deviation(values: Tensor, over: int) -> Tensor:
    mean = values.mean(over, keepdim=True)
    return ((values - mean).square().mean(over) + 1e-5).sqrt()


class Readers(nn.Module):
    """The learned layers: measures to severities.

    Args:
        tile: number of measures of a tile.
        whole: number of measures of a whole photo.
    """

    tile_mean: Tensor
    tile_std: Tensor
    whole_mean: Tensor
    whole_std: Tensor

    def __init__(self, tile: int, whole: int) -> None:
        super().__init__()
        for name, size in (("tile", tile), ("whole", whole)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.dropped = nn.Dropout(0.1)  # measures
        self.tile = nn.Sequential(
            nn.Linear(tile, 160), nn.GELU(), nn.Linear(160, 96), nn.GELU(), nn.Linear(96, 96)
        )
        self.whole = nn.Sequential(nn.Linear(whole, 128), nn.GELU(), nn.Linear(128, 96), nn.GELU())
        self.joint = nn.Sequential(
            nn.Dropout(0.15),
            nn.Linear(4 * 96 + 96, 192),
            nn.GELU(),
            nn.Dropout(0.15),
            nn.Linear(192, 96),
            nn.GELU(),
            nn.Linear(96, 2 * len(CAUSES)),
        )

    def forward(self, tiles_BTF: Tensor, whole_BG: Tensor) -> tuple[Tensor, Tensor]:
        """Severities in points (B, 6), and logits that a cause is present (B, 6)."""
        tiles_BTF = self.dropped(((tiles_BTF - self.tile_mean) / self.tile_std).clamp(-5, 5))
        whole_BG = self.dropped(((whole_BG - self.whole_mean) / self.whole_std).clamp(-5, 5))
        fine_BTD = self.tile(tiles_BTF)
        pooled = [fine_BTD.mean(1), _deviation(fine_BTD, 1), fine_BTD.amax(1), fine_BTD.amin(1)]
        logits_B6, sizes_B6 = self.joint(torch.cat([*pooled, self.whole(whole_BG)], 1)).chunk(2, 1)
        return _POINTS * logits_B6.sigmoid() * functional.softplus(sizes_B6), logits_B6


class Ensemble(nn.Module):
    """The mean of several readers, trained with different seeds."""

    def __init__(self, members: list[Readers]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, tiles_BTF: Tensor, whole_BG: Tensor) -> Tensor:
        """Severities in points (B, 6)."""
        return torch.stack([member(tiles_BTF, whole_BG)[0] for member in self.members]).mean(0)


class CauseSeverities(nn.Module):
    """The whole network: views in, severities out."""

    def __init__(self, members: list[Readers]) -> None:
        super().__init__()
        self.tile, self.whole, self.readers = TileMeasures(), WholeMeasures(), Ensemble(members)

    def forward(self, tiles_BTSS3: Tensor, whole_BHW3: Tensor) -> Tensor:
        """Severities in points (B, 6)."""
        number = tiles_BTSS3.shape[1]
        measures_BTF = self.tile(tiles_BTSS3.flatten(0, 1)).unflatten(0, (-1, number))
        severities_B6: Tensor = self.readers(measures_BTF, self.whole(whole_BHW3))
        return severities_B6
