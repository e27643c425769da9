"""Tests whether quality maps find a degraded quadrant of real photos; compares several ways.

    python benchmarks/quality_map.py --photos KODAK [--model default] [--ways all]

One quadrant of each photo (each in turn) is degraded by blur, JPEG, noise, contrast loss and
resampling. Each map is tested twice, for each degradation and for all:

* dropped: did the mean of this quadrant fall most against the undegraded photo's map?
* lowest: is it the lowest quadrant of the degraded photo's map? Then the degradation must outweigh
  the differences between the photo's own quadrants. Chance is 25 % for both.

Ways: `explain` is `model.explain`: the scores of mirrored regions. The others work on the tokens
of the covering crops: `window k` decodes k x k patches around each patch; `attention` weights these
predictions (k = 3) by the decoder's attention; `contribution` is the gradient of the quality times
a patch's difference from the mean patch; `leave out` is the loss of quality without a patch.
`--ways explain` measures only that way. Writes benchmarks/results/quality_map.csv; rows of other
models and levels are kept.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qfm_iqm import load_model, read_image
from qfm_iqm.arrays import Doubles
from qfm_iqm.image.distortions import LEVELS
from qfm_iqm.image.preprocess import grid_positions
from qfm_iqm.image.preprocess_torch import distort_tensor, resize_and_pad
from qfm_iqm.model.decoder import AttentionPanelDecoder
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.network import QualityNetwork

RESULTS = Path(__file__).parent / "results" / "quality_map.csv"
Way = Callable[[QualityNetwork, Tensor], Tensor]


def main() -> None:
    """Measures, prints and writes the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder")
    parser.add_argument("--count", type=int, help="number of photos, evenly spread")
    parser.add_argument("--model", default="default")
    parser.add_argument("--name", help="name of the model in the results")
    parser.add_argument("--level", type=int, default=4, help="level of degradation, 1 to 5")
    parser.add_argument("--ways", choices=["all", "explain"], default="all")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    paths = sorted(path for path in arguments.photos.iterdir() if path.is_file())
    if arguments.count:
        paths = [paths[i * len(paths) // arguments.count] for i in range(arguments.count)]
    ways = WAYS if arguments.ways == "all" else {}
    found = trials(model, paths, ways, arguments.level)
    name = arguments.name or model.card.name
    rows = [
        [name, way, arguments.level, kind, len(answers), *np.mean(answers, 0).round(4).tolist()]
        for way, by_kind in found.items()
        for kind, answers in [*by_kind.items(), ("all", list(chain(*by_kind.values())))]
    ]
    write(rows, arguments.out)
    for row in rows:
        print(*row)


def write(rows: list[list[object]], out: Path) -> None:
    """Writes rows; they replace those of the same model and level."""
    kept: list[list[str]] = []
    if out.exists():
        with out.open(newline="", encoding="utf-8") as file:
            new = {(str(row[0]), str(row[2])) for row in rows}
            kept = [row for row in list(csv.reader(file))[1:] if (row[0], row[2]) not in new]
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = ["model", "way", "level", "degradation", "trials", "dropped", "lowest"]
        writer.writerows([head, *kept, *rows])


def trials(
    model: QualityModel, paths: list[Path], ways: Mapping[str, Way], level: int
) -> dict[str, dict[str, list[tuple[bool, bool]]]]:
    """Results of both tests by way and degradation."""
    answers: dict[str, dict[str, list[tuple[bool, bool]]]] = defaultdict(lambda: defaultdict(list))
    for number, path in enumerate(paths):
        image = read_image(path)
        clean = {way: quadrants(one) for way, one in maps(model, image, ways)}
        for place, kind in enumerate(LEVELS):
            bad = (number + place) % 4
            degraded = with_bad_quadrant(image, distort_tensor(image, kind, level), bad)
            for way, one in maps(model, degraded, ways):
                means = quadrants(one)
                dropped = int(np.argmin(means - clean[way])) == bad
                answers[way][kind].append((dropped, int(np.argmin(means)) == bad))
    return answers


def with_bad_quadrant(image: Tensor, degraded: Tensor, bad: int) -> Tensor:
    """The image with one quadrant from its degraded copy."""
    height, width = (length // 2 for length in image.shape[1:])
    rows = slice(height, None) if bad >= 2 else slice(height)
    columns = slice(width, None) if bad % 2 else slice(width)
    mixed = image.clone()
    mixed[:, rows, columns] = degraded[:, rows, columns]
    return mixed


def quadrants(values: Doubles) -> Doubles:
    """Means (4,) of a map's quadrants, row by row; a middle line is left out."""
    rows, columns = (length // 2 for length in values.shape)
    return np.array(
        [v.mean() for half in (values[:rows], values[-rows:])
         for v in (half[:, :columns], half[:, -columns:])]
    )  # fmt: skip


@torch.inference_mode()
def maps(
    model: QualityModel, image: Tensor, ways: Mapping[str, Way]
) -> Iterator[tuple[str, Doubles]]:
    """The image's map by `model.explain`, and by each way."""
    yield "explain", model.explain(image).values.astype(np.float64)
    if not ways:
        return
    size = model.card.preprocessing.crop
    fitted = resize_and_pad(image, model.card.preprocessing)
    places = grid_positions(fitted.shape[1], fitted.shape[2], size)
    crops = torch.stack([fitted[:, y : y + size, x : x + size] for y, x in places])
    tokens = model.network.encode(crops)
    side = model.network.encoder.patches
    for name, way in ways.items():
        values = way(model.network, tokens).reshape(-1, 1, side, side)
        pixels = torch.nn.functional.interpolate(values, (size, size))[:, 0]
        total, shown = torch.zeros(fitted.shape[1:]), torch.zeros(fitted.shape[1:])
        for one, (y, x) in zip(pixels, places, strict=True):
            total[y : y + size, x : x + size] += one
            shown[y : y + size, x : x + size] += 1
        yield name, (total / shown).double().numpy()


def contribution(network: QualityNetwork, tokens: Tensor) -> Tensor:
    """Gradient of the quality by a patch, times the patch's difference from the mean."""
    with torch.inference_mode(False), torch.enable_grad():
        patches = tokens[:, 1:].clone().requires_grad_()
        quality = network.decode(torch.cat([first(network, tokens, patches), patches], 1))
        (gradient,) = torch.autograd.grad(quality.sum(), patches)
        apart = patches - patches.mean(1, keepdim=True)
        return quality[:, None].detach() + patches.shape[1] * (gradient * apart).sum(-1).detach()


def first(network: QualityNetwork, tokens: Tensor, patches: Tensor) -> Tensor:
    """The class token: the backbone's own, or the patches' mean."""
    if getattr(network.encoder.backbone, "cls_token", None) is not None:
        return tokens[:, :1].expand(len(patches), -1, -1).clone()
    return patches.mean(1, keepdim=True)


def leave_out(network: QualityNetwork, tokens: Tensor) -> Tensor:
    """Gain of quality by a patch: quality with it minus quality without, times N."""
    quality, count = network.decode(tokens), tokens.shape[1] - 1
    without = []
    for place in range(count):
        patches = torch.cat([tokens[:, 1 : 1 + place], tokens[:, 2 + place :]], 1)
        without.append(network.decode(torch.cat([first(network, tokens, patches), patches], 1)))
    return quality[:, None] + count * (quality[:, None] - torch.stack(without, 1))


def attention(network: QualityNetwork, tokens: Tensor) -> Tensor:
    """Window predictions, weighted by the attention of the decoder's panel to each patch."""
    decoder = network.decoder
    assert isinstance(decoder, AttentionPanelDecoder)
    layer, panel = decoder.layer, decoder.panel + tokens[:, :1]
    normed = layer.norm1(panel)
    panel = panel + layer.self_attn(normed, normed, normed, need_weights=False)[0]
    _, weights = layer.multihead_attn(layer.norm2(panel), tokens[:, 1:], tokens[:, 1:])
    relative = weights.mean(1) * weights.shape[-1]
    answers = local_answers(network, tokens, 3).flatten(1)
    quality = network.decode(tokens)[:, None]
    weighted: Tensor = quality + relative * (answers - quality)
    return weighted


def local_answers(network: QualityNetwork, tokens: Tensor, size: int) -> Tensor:
    """The decoder's prediction for a window around each patch, inside the border."""
    side, count = network.encoder.patches, len(tokens)
    places = torch.arange(side * side).reshape(side, side)
    starts = (torch.arange(side) - size // 2).clamp(0, side - size)
    answers = torch.empty(count, side, side)
    for row, top in enumerate(starts.tolist()):
        for column, left in enumerate(starts.tolist()):
            near = tokens[:, 1 + places[top : top + size, left : left + size].flatten()]
            asked = torch.cat([first(network, tokens, near), near], 1)
            answers[:, row, column] = network.decode(asked)
    return answers


def window(size: int) -> Way:
    """The decoder's predictions for windows with `size` patches a side."""
    return lambda network, tokens: local_answers(network, tokens, size)


WAYS: dict[str, Way] = {
    **{f"window {size}": window(size) for size in (1, 3, 5, 7)},
    "attention": attention,
    "contribution": contribution,
    "leave out": leave_out,
}


if __name__ == "__main__":
    main()
