"""The network that says why a photo scores low: views in, severities out.

What it sees is measured in fixed ways, and what that means is learned. (A convolutional trunk from
random weights had learned next to nothing after as much computing as all of this takes: the energy
of photos lies in low frequencies, and that of most faults in high ones.) Of each tile:

* the spectrum of squares of 8 pixels, of luma and color, at full and at half size: how strong each
  frequency is, how often it is nearly nothing, and how sparse it is;
* how strong high frequencies are where the photo is plain: there they are noise;
* how much neighbors differ, in steps: noise, smoothness, too few levels and equal pixels;
* whether differences repeat every 8 pixels, at any phase: the blocks of JPEG.

Of the whole photo: histograms of light, saturation and hue, and their spread in cells.

A small perceptron reads each tile. What tiles say is pooled by mean, deviation, most and least,
since a photo may be sharp in one place and smooth in another. Another one joins it with the whole.
Of each cause it says how likely there is any and how severe it is then, and multiplies both.

Shapes: B photos, T tiles, N of all photos, S side of a tile, F and G measures, 6 causes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from qfm_iqm.causes.severity import CAUSES

_POINTS = 20.0  # of severity, in units of what the last layer gives
_SMALL = 0.3  # levels of 8 bits: what is less is as good as nothing
_STEPS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # between neighbors, in levels
_LUMA = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))


def _basis() -> Tensor:
    """The cosines of squares of 8 x 8 pixels (64, 1, 8, 8), orthonormal, low frequencies first."""
    place = torch.arange(8, dtype=torch.float64)
    line = torch.cos(math.pi / 8 * (place[None] + 0.5) * place[:, None]) / 2
    line[0] /= math.sqrt(2)
    square = line[:, None, :, None] * line[None, :, None, :]
    order = torch.argsort((place[:, None] + place[None]).flatten(), stable=True)
    return square.reshape(64, 1, 8, 8)[order].float()


class TileMeasures(nn.Module):
    """Measures of tiles; nothing in it is learned."""

    basis: Tensor
    colors: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", _basis())
        self.register_buffer("colors", torch.tensor(_LUMA)[:, :, None, None])

    def forward(self, tiles_NSS3: Tensor) -> Tensor:
        """Measures (N, F) of tiles, uint8."""
        planes_N3SS = functional.conv2d(tiles_NSS3.permute(0, 3, 1, 2).float(), self.colors)
        luma_N1SS, chroma_N2SS = planes_N3SS[:, :1], planes_N3SS[:, 1:]
        half_N3SS = functional.avg_pool2d(planes_N3SS, 2)
        measures = [
            *self._spectrum(luma_N1SS, 64, plain=True),
            *self._spectrum(chroma_N2SS[:, :1], 28),
            *self._spectrum(chroma_N2SS[:, 1:], 28),
            *self._spectrum(half_N3SS[:, :1], 64, plain=True),
            *_steps(planes_N3SS),
            *_repeats(planes_N3SS),
            planes_N3SS.mean((2, 3)) / 64,
            (luma_N1SS.flatten(1).amax(1, keepdim=True)) / 64,
            (luma_N1SS.flatten(1).amin(1, keepdim=True)) / 64,
        ]
        return torch.cat(measures, 1)

    def _spectrum(self, plane_N1SS: Tensor, number: int, *, plain: bool = False) -> list[Tensor]:
        """How strong, how often nothing and how sparse the first frequencies but the mean are."""
        sizes_NFP = functional.conv2d(plane_N1SS, self.basis[1:number], stride=8).flatten(2).abs()
        mean_NF = sizes_NFP.mean(2)
        bands = [sizes_NFP[:, first:last].mean(1) for first, last in _bands(number)]
        measures = [
            (mean_NF + _SMALL).log(),
            (-sizes_NFP[:, 5:] / 2).exp().mean(2),
            (sizes_NFP.square().mean(2) + _SMALL**2).log() - 2 * (mean_NF + _SMALL).log(),
        ]
        for band_NP in bands:  # over places: the least, the most, the deviation
            logs_NP = (band_NP + _SMALL).log()
            spread = ((logs_NP - logs_NP.mean(1, keepdim=True)).square().mean(1) + 1e-4).sqrt()
            measures.append(torch.stack([logs_NP.amin(1), logs_NP.amax(1), spread], 1))
        if plain:
            weights_NP = (-bands[0] / 4).exp() + 1e-4
            weights_NP = weights_NP / weights_NP.sum(1, keepdim=True)
            flat = [(weights_NP * band_NP).sum(1) for band_NP in bands]
            measures.append((torch.stack(flat, 1) + _SMALL).log())
        return measures


def _bands(number: int) -> list[tuple[int, int]]:
    """Of so many frequencies but the first: low, middle and high ones."""
    return [(0, 9), (9, number // 2), (number // 2, number - 1)]


def _steps(planes_N3SS: Tensor) -> list[Tensor]:
    """How often neighbors differ by about so many levels, across and down."""
    found = []
    rows, columns = planes_N3SS[..., ::2, :], planes_N3SS[..., ::2]  # enough to count
    for ones, others in (
        (rows[..., 1:], rows[..., :-1]),
        (columns[..., 1:, :], columns[..., :-1, :]),
    ):
        sizes_NCP = (ones - others).abs().flatten(2)
        shares = [(sizes_NCP <= step + 0.01).float().mean(2) for step in _STEPS]
        found.append(torch.stack(shares, 2).flatten(1).sqrt())
    return found


def _repeats(planes_N3SS: Tensor) -> list[Tensor]:
    """Differences of third order by their place modulo 8: how far the most stands out."""
    found = []
    for planes in (planes_N3SS, planes_N3SS.transpose(2, 3)):
        third = planes[..., :-3] - 3 * planes[..., 1:-2] + 3 * planes[..., 2:-1] - planes[..., 3:]
        line_NCS = third.abs().clamp(max=60).mean(2)[..., :56]
        phases_NC8 = line_NCS.unflatten(2, (7, 8)).mean(2) + _SMALL
        logs_NC8 = phases_NC8.log()
        mean_NC1 = logs_NC8.mean(2, keepdim=True)
        most_NC2 = logs_NC8.topk(2, 2).values - mean_NC1
        least_NC = logs_NC8.amin(2) - mean_NC1[..., 0]
        doubled_NC4 = phases_NC8.unflatten(2, (2, 4)).mean(2).log()  # every 4 pixels
        fourth_NC = doubled_NC4.amax(2) - doubled_NC4.mean(2)
        found += [most_NC2.flatten(1), least_NC, mean_NC1[..., 0], fourth_NC]
    return found


class WholeMeasures(nn.Module):
    """Measures of whole photos; nothing in it is learned."""

    def forward(self, whole_BHW3: Tensor) -> Tensor:
        """Measures (B, G) of whole photos, uint8."""
        values_B3P = whole_BHW3.permute(0, 3, 1, 2).float().flatten(2) / 255
        most_BP, least_BP = values_B3P.amax(1), values_B3P.amin(1)
        luma_BP = (values_B3P * values_B3P.new_tensor(_LUMA[0])[:, None]).sum(1)
        chroma_BP = most_BP - least_BP
        saturation_BP = chroma_BP / (most_BP + 0.02)
        measures = [
            _histogram(luma_BP, 20),
            _histogram(most_BP, 12),
            _histogram(least_BP, 12),
            _histogram(chroma_BP, 16),
            _histogram(saturation_BP, 12),
        ]
        for color in range(3):
            measures.append(_histogram(values_B3P[:, color], 10))
        cells_B4 = functional.adaptive_avg_pool2d(luma_BP.unflatten(1, (64, 64))[:, None], 4)
        measures.append(cells_B4.flatten(1))
        for one in (luma_BP, chroma_BP, *values_B3P.unbind(1)):
            measures.append(torch.stack([one.mean(1), _deviation(one, 1)], 1))
        return torch.cat(measures, 1)


def _histogram(values_BP: Tensor, bins: int) -> Tensor:
    """Shares of values in [0, 1] near each of so many levels, which overlap; their roots."""
    centers = torch.linspace(0, 1, bins, device=values_BP.device)
    near_BPF = (1 - (values_BP[..., None] - centers).abs() * (bins - 1)).clamp(min=0)
    return (near_BPF.mean(1) + 1e-4).sqrt()


def _deviation(values: Tensor, over: int) -> Tensor:
    mean = values.mean(over, keepdim=True)
    return ((values - mean).square().mean(over) + 1e-5).sqrt()


class Readers(nn.Module):
    """What is learned: measures to severities.

    Args:
        tile: measures of a tile.
        whole: measures of a whole photo.
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
        """Severities in points (B, 6), and logits of there being any (B, 6)."""
        tiles_BTF = ((tiles_BTF - self.tile_mean) / self.tile_std).clamp(-5, 5)
        whole_BG = ((whole_BG - self.whole_mean) / self.whole_std).clamp(-5, 5)
        fine_BTD = self.tile(tiles_BTF)
        pooled = [fine_BTD.mean(1), _deviation(fine_BTD, 1), fine_BTD.amax(1), fine_BTD.amin(1)]
        logits_B6, sizes_B6 = self.joint(torch.cat([*pooled, self.whole(whole_BG)], 1)).chunk(2, 1)
        return _POINTS * logits_B6.sigmoid() * functional.softplus(sizes_B6), logits_B6


class CauseSeverities(nn.Module):
    """The whole network as it is used: views in, severities out."""

    def __init__(self, readers: Readers) -> None:
        super().__init__()
        self.tile, self.whole, self.readers = TileMeasures(), WholeMeasures(), readers

    def forward(self, tiles_BTSS3: Tensor, whole_BHW3: Tensor) -> Tensor:
        """Severities in points (B, 6)."""
        number = tiles_BTSS3.shape[1]
        measures_BTF = self.tile(tiles_BTSS3.flatten(0, 1)).unflatten(0, (-1, number))
        severities_B6: Tensor = self.readers(measures_BTF, self.whole(whole_BHW3))[0]
        return severities_B6
