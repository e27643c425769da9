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

Most of the time goes into reading and writing memory, so differences and extremes are measured in
every second row only. Both directions, both color planes and all members of the ensemble are
computed together.

Shapes: B photos, T tiles of one, N tiles of all, S side of a tile, L lines, F and G measures,
M members, 6 causes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from qfm_iqm.causes.severity import CAUSES

_POINTS = 20.0  # of severity per unit of the last layer's output
_SMALL = 0.3  # 8-bit levels; less counts as nothing
_STEPS = (0.5, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0)  # differences of neighbors, in levels
_REPEATED = 56  # third differences in a line that are compared
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
        # Blue and red as more tiles; then rows and columns.
        chroma_KSS = planes_N3SS[:, 1:].flatten(0, 1)
        lines_K3LS = torch.cat([_half(planes_N3SS), _half(planes_N3SS.transpose(2, 3))])
        measures = [
            self._spectrum(luma_N1SS, self.basis, plain=True),
            self._spectrum(chroma_KSS[:, None], self.basis[:27]).unflatten(0, (-1, 2)).flatten(1),
            self._spectrum(luma_N1SS, self.half_basis, plain=True),
            _differences(lines_K3LS).unflatten(0, (2, -1)).transpose(0, 1).flatten(1),
            planes_N3SS.mean((2, 3)) / 64,
            _ends(_half(colors_N3SS).flatten(2)),
        ]
        return torch.cat(measures, 1)

    def _spectrum(self, plane_N1SS: Tensor, basis: Tensor, *, plain: bool = False) -> Tensor:
        """How strong, how often near zero and how sparse each frequency is."""
        sizes_NFP = functional.conv2d(plane_N1SS, basis, stride=basis.shape[3]).flatten(2).abs()
        mean_NF = sizes_NFP.mean(2) + _SMALL
        logs_NF = mean_NF.log()
        bands_N3P = _bands(len(basis) + 1).to(sizes_NFP) @ sizes_NFP
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
        return torch.cat(measures, 1)


def _bands(number: int) -> Tensor:
    """A matrix that takes means of low, middle and high frequencies, without the first."""
    means_3F = torch.zeros(3, number - 1)
    for band, (first, last) in enumerate([(0, 9), (9, number // 2), (number // 2, number - 1)]):
        means_3F[band, first:last] = 1 / (last - first)
    return means_3F


def _half(planes_N3SS: Tensor) -> Tensor:
    """Every second row, which says nearly as much as all."""
    return planes_N3SS[:, :, ::2]


def _differences(planes_N3LS: Tensor) -> Tensor:
    """Differences of horizontal neighbors: how large they are, and how they repeat."""
    first_N3LD = planes_N3LS[..., 1:] - planes_N3LS[..., :-1]
    sizes_N3LD = first_N3LD.abs()
    used_N3LD = first_N3LD[..., : _REPEATED + 2]
    second_N3LD = used_N3LD[..., 1:] - used_N3LD[..., :-1]
    third_N3LD = (second_N3LD[..., 1:] - second_N3LD[..., :-1]).abs()
    found = [_shares(sizes_N3LD.flatten(2), _STEPS)]
    # Edges of blocks stand out; pixels within blocks are alike, filtered or not.
    for line_N3D, periods in (
        (third_N3LD.clamp(max=60).mean(2), (8, 4)),
        (sizes_N3LD.clamp(max=2).mean(2), (16, 8, 4, 2)),
    ):
        phases_N3R = line_N3D[..., :48].unflatten(2, (3, 16)).mean(2) + _SMALL / 3
        if periods[0] == 8:
            phases_N3R = line_N3D.unflatten(2, (-1, 8)).mean(2) + _SMALL
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
    return torch.cat(found, 1)


def _shares(values_NCP: Tensor, limits: tuple[float, ...]) -> Tensor:
    """Means of values, each of which counts up to a limit, as shares of it (N, C * limits)."""
    means = [values_NCP.clamp(max=limit).mean(2, keepdim=True) for limit in limits]
    return (torch.cat(means, 2) / torch.tensor(limits).to(values_NCP)).flatten(1)


def _ends(colors_N3P: Tensor) -> Tensor:
    """Extremes, and shares of pixels near black and near white, in all colors and in any."""
    ends_N2P = torch.stack([colors_N3P.amax(1), colors_N3P.amin(1)], 1)
    least_N2, most_N2 = ends_N2P.amin(2), ends_N2P.amax(2)
    found = [least_N2[:, 1:], most_N2[:, :1], least_N2[:, :1], most_N2[:, 1:]]
    shares_N8 = 1 - _shares(torch.stack([ends_N2P, 255 - ends_N2P], 2).flatten(1, 2), _ENDS)
    return torch.cat([*found, shares_N8], 1)


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
        joined_B1D = torch.cat(
            [
                fine_BTD.mean(-2, keepdim=True),
                _deviation(fine_BTD, -2)[..., None, :],
                fine_BTD.amax(-2, keepdim=True),
                fine_BTD.amin(-2, keepdim=True),
                self.whole(whole_BG[..., None, :]),
            ],
            -1,
        )
        logits_B6, sizes_B6 = self.joint(joined_B1D)[..., 0, :].chunk(2, -1)
        return _POINTS * logits_B6.sigmoid() * functional.softplus(sizes_B6), logits_B6


class Ensemble(Readers):
    """The mean of several readers, which were trained with different seeds on the same copies."""

    def __init__(self, members: list[Readers]) -> None:
        first = members[0]
        super().__init__(len(first.tile_mean), len(first.whole_mean))
        self.load_state_dict(first.state_dict())
        for name in ("tile", "whole", "joint"):
            layers = zip(*(getattr(member, name) for member in members), strict=True)
            setattr(self, name, nn.Sequential(*map(_side_by_side, layers)))

    def forward(self, tiles_BTF: Tensor, whole_BG: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the members' severities in points (B, 6), and of their logits (B, 6)."""
        severities_BM6, logits_BM6 = super().forward(tiles_BTF[:, None], whole_BG[:, None])
        return severities_BM6.mean(1), logits_BM6.mean(1)


class _Linears(nn.Module):
    """The linear layers of M members side by side: (B, M or 1, N, D) to (B, M, N, E)."""

    weight_MDE: Tensor
    bias_M1E: Tensor

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.register_buffer("weight_MDE", torch.stack([layer.weight.T for layer in layers]))
        self.register_buffer("bias_M1E", torch.stack([layer.bias[None] for layer in layers]))

    def forward(self, values_BMND: Tensor) -> Tensor:
        """Applies each member's layer to its values."""
        return values_BMND @ self.weight_MDE + self.bias_M1E


def _side_by_side(layers: Sequence[nn.Module]) -> nn.Module:
    linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return _Linears(linears) if linears else layers[0]


class CauseSeverities(nn.Module):
    """The whole network: views in, severities out."""

    def __init__(self, members: list[Readers]) -> None:
        super().__init__()
        self.tile, self.whole, self.readers = TileMeasures(), WholeMeasures(), Ensemble(members)

    def forward(self, tiles_BTSS3: Tensor, whole_BHW3: Tensor) -> Tensor:
        """Severities in points (B, 6)."""
        number = tiles_BTSS3.shape[1]
        measures_BTF = self.tile(tiles_BTSS3.flatten(0, 1)).unflatten(0, (-1, number))
        severities_B6: Tensor = self.readers(measures_BTF, self.whole(whole_BHW3))[0]
        return severities_B6
