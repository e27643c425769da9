"""How well `qfm cull` finds moments and ranks their photos; --fit fits its parameters.

    python benchmarks/culling.py --root BIQ2021 --kodak KODAK \
        --cells CELLS [--fit]

Moments: photos of BIQ2021's training split are reframed, re-exposed and degraded. The figure is the
share that is closer to its original than all but one in 1,000 (or 10,000) other pairs, by layout,
perceptual hash and network features (the class token, and statistics of the stages).

Ranking: pairs of one moment with a clear preference (culling_pairs.py), in five folds over moments,
so that weights are fitted on other contents. For Kodak's photos they are fitted without four of the
degradations. The fitted weights are compared with the plain score and with sharpness alone.

--fit writes src/qfm_iqm/culling/parameters.json: weights fitted on all these pairs except Kodak's,
and limits of similarity that one in 1,000 (with a time) or 10,000 (without) of all pairs of photos
exceeds. Neither uses the test split. Run it again when the default model changes.

Writes benchmarks/results/culling.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import affine_transform
from scipy.optimize import minimize
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

import qfm_iqm.culling
from culling_pairs import HELD_OUT, Photos, degraded_moments, deviations_of, rated_moments
from qfm_iqm.arrays import Bytes, Doubles
from qfm_iqm.culling.layout import layout
from qfm_iqm.culling.measures import NAMES
from qfm_iqm.culling.ranking import INPUTS, PARAMETERS
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.image.decode import read_image_uint8
from qfm_iqm.image.distortions import distort
from qfm_iqm.image.preprocess import covering_crops
from qfm_iqm.image.resize import as_bytes, read_resized
from qfm_iqm.scoring.runtimes.load import load_runtime
from qfm_iqm.training.degradations import read_cells

Row = tuple[str, int, str, float, float | None, float | None]

RESULTS = Path(__file__).parent / "results"
GAP = 30.0  # seconds; no rated photos with times exist to fit it
SAME = 0.6  # similarity of BIQ2021's photos of one scene; judged by eye on 40 pairs
LIKENESS_PHOTOS = 40
COPIED_PHOTOS = 40
COPIES = 4
FOLDS = 5
RIDGE = 1.0  # on weights of standardized inputs
RESAMPLES = 1000


def main() -> None:
    """Measures, prints and writes; fits with --fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("root", "kodak", "cells"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--fit", action="store_true")
    given = parser.parse_args()
    table = read_table(given.root / "labelled.csv")
    split = split_by_content(table).indices(table)
    assert table.mos is not None
    kept = np.concatenate([split["train"], split["validation"]])
    paths = table.paths(given.root)
    files = [paths[i] for i in kept]
    runtime = load_runtime("default", "onnx")
    rows: list[Row] = []

    draw = np.random.default_rng(0)
    chosen = draw.permutation(split["train"])[:LIKENESS_PHOTOS]
    rows += likeness_rows([paths[i] for i in chosen], draw)

    layouts = np.array([layout(_small(file)) for file in files])
    similarity = layouts @ layouts.T
    above = similarity[np.triu_indices(len(files), 1)]
    limits = {"gap": GAP}
    limits |= {"together": round(float(np.quantile(above, 1 - 1e-3)), 2)}
    limits |= {"alone": round(float(np.quantile(above, 1 - 1e-4)), 2)}
    i, j = np.nonzero(np.triu(similarity >= SAME, 1))
    links = coo_matrix((np.ones(len(i)), (i, j)), shape=similarity.shape)
    moments = connected_components(links, directed=False)[1].tolist()
    del similarity, above

    seen = [number < len(split["train"]) for number in range(len(kept))]
    rated = rated_moments(files, np.asarray(table.mos)[kept], moments, seen, runtime)
    cells = read_cells(given.cells)
    deviations = deviations_of(given.cells, cells)
    training = split["train"]
    better_half = training[np.argsort(-np.asarray(table.mos)[training])[: len(training) // 2]]
    originals = [paths[i] for i in draw.permutation(better_half)[:COPIED_PHOTOS]]
    degraded = degraded_moments(
        originals, cells, deviations, runtime, copies=COPIES, held_out=False
    )
    kodak = degraded_moments(
        sorted(given.kodak.glob("*.png")), cells, deviations, runtime, copies=COPIES, held_out=True
    )
    rows += ranking_rows(rated, degraded, kodak)
    with (RESULTS / "culling.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["check", "number", "by", "share", "low", "high"])
        writer.writerows(rows)
    for row in rows:
        print(*row)
    if given.fit:
        weights = fitted([rated, degraded], list(range(len(INPUTS))))
        reasons = fitted([rated, degraded], list(range(1, len(INPUTS))))
        parameters = {
            "limits": limits,
            "weights": dict(zip(INPUTS, weights.round(4).tolist(), strict=True)),
            "reasons": dict(zip(NAMES, reasons.round(4).tolist(), strict=True)),
        }
        place = Path(qfm_iqm.culling.__path__[0]) / PARAMETERS
        place.write_text(json.dumps(parameters, indent=2) + "\n", "utf-8")


def _small(file: Path) -> Bytes:
    """A photo at about half its size, enough for its layout."""
    with Image.open(file) as image:
        image.draft("RGB", (image.width // 2, image.height // 2))
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


# ---- moments ----


def likeness_rows(files: list[Path], draw: np.random.Generator) -> Iterator[Row]:
    """Shares of photos that are found again after reframing and degrading."""
    descriptions: dict[str, tuple[list[Doubles], list[Doubles]]] = {}
    describe = _describers()
    for file in files:
        photo = read_image_uint8(file)
        for side, pixels in enumerate((photo, _retaken(photo, draw))):
            for name, values in describe(pixels).items():
                descriptions.setdefault(name, ([], []))[side].append(values)
    for name, sides in descriptions.items():
        first, again = (
            np.array(side) / np.linalg.norm(side, axis=1, keepdims=True) for side in sides
        )
        similarity = first @ again.T
        others = np.sort(similarity[~np.eye(len(first), dtype=bool)])
        for share in (1e-3, 1e-4):
            limit = others[int(len(others) * (1 - share)) - 1]
            found = float((np.diag(similarity) > limit).mean())
            check = f"retaken photos found, 1 in {1 / share:,.0f} others as alike"
            yield check, len(files), name, round(found, 4), None, None


def _describers() -> Callable[[Bytes], dict[str, Doubles]]:
    """A function that gives a photo's descriptors by name."""
    import torch

    from qfm_iqm.model.folder import load_model
    from qfm_iqm.model.stage_encoder import StageEncoder

    model = load_model("default")
    encoder = model.network.encoder
    preprocessing = model.card.preprocessing
    assert isinstance(encoder, StageEncoder)

    @torch.inference_mode()
    def describe(photo_CHW: Bytes) -> dict[str, Doubles]:
        image = Image.fromarray(np.ascontiguousarray(photo_CHW.transpose(1, 2, 0)))
        pixels = as_bytes(read_resized(image, preprocessing).pixels)
        (crop, *_) = covering_crops(pixels, preprocessing)
        maps = encoder.stages(torch.from_numpy(np.ascontiguousarray(crop))[None].float() / 255)
        statistics = [s for m in maps for s in (m.mean((2, 3)), m.std((2, 3)))]
        bits: Any = imagehash.phash(image).hash
        return {
            "layout": layout(pixels).astype(np.float64),
            "perceptual hash": bits.ravel() * 2.0 - 1,
            "network, class token": encoder.tokens(maps)[0, 0].double().numpy(),
            "network, statistics of stages": torch.cat(statistics, 1)[0].double().numpy(),
        }

    return describe


def _retaken(photo_CHW: Bytes, draw: np.random.Generator) -> Bytes:
    """A photo reframed (70 to 95 % of each side, 4 degrees), re-exposed and degraded."""
    height, width = photo_CHW.shape[1:]
    share, angle = draw.uniform(0.7, 0.95), np.deg2rad(draw.uniform(-4, 4))
    turn = share * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    center = np.array([height, width]) / 2
    moved = center * (1 + (1 - share) * 0.8 * draw.uniform(-1, 1, 2))
    offset = moved - turn @ center
    colors = [
        affine_transform(c.astype(np.float32), turn, offset, order=1, mode="mirror")
        for c in photo_CHW
    ]
    light = np.stack(colors, -1) * 2 ** draw.uniform(-0.6, 0.6)
    kinds = {
        "gaussian blur": (0.1, 3),
        "jpeg": (15, 95),
        "white noise": (2e-4, 0.01),
        "motion blur": (1, 8),
    }
    kind = str(draw.choice(list(kinds)))
    pixels = np.rint(np.clip(light, 0, 255)).astype(np.uint8)
    return np.ascontiguousarray(
        distort(pixels, kind, float(draw.uniform(*kinds[kind]))).transpose(2, 0, 1)
    )


# ---- ranking ----


def ranking_rows(rated: Photos, degraded: Photos, kodak: Photos) -> Iterator[Row]:
    """Accuracy of each way on pairs of contents that nothing was fitted on."""
    everything = list(range(len(INPUTS)))
    merits = [np.zeros(len(photos.moment)) for photos in (rated, degraded)]
    for fold in range(FOLDS):
        weights = fitted([_without(photos, fold) for photos in (rated, degraded)], everything)
        for place, photos in enumerate((rated, degraded)):
            held = photos.moment % FOLDS == fold
            merits[place][held] = photos.inputs[held] @ weights
    yield from _right("rated moments of BIQ2021", rated, merits[0])
    unseen = ~rated.seen
    rows = "the same, at least one photo of the validation split"
    yield from _right(rows, rated, merits[0], unseen)
    yield from _right("degraded photos of BIQ2021", degraded, merits[1])
    weights = fitted([rated, degraded], everything)
    yield from _right("degraded photos of Kodak", kodak, kodak.inputs @ weights)
    new = np.array([kind in HELD_OUT for kind in kodak.kind])
    yield from _right(
        "the same, degradations that nothing was fitted on", kodak, kodak.inputs @ weights, new
    )


def _right(
    check: str, photos: Photos, merits: Doubles, among: npt.NDArray[np.bool_] | None = None
) -> Iterator[Row]:
    """Shares of correctly ranked pairs, with intervals over moments."""
    better, worse = photos.pairs()
    if among is not None:
        wanted = among[better] | among[worse]
        better, worse = better[wanted], worse[wanted]
    ways = {
        "plain score": photos.inputs[:, 0],
        "sharpness": photos.inputs[:, 1 + NAMES.index("detail 1")],
        "ranking": merits,
    }
    moments, place = np.unique(photos.moment[better], return_inverse=True)
    counts = np.bincount(place)
    for name, values in ways.items():
        right = np.bincount(place, values[better] > values[worse])
        draws = np.random.default_rng(0).integers(0, len(moments), (RESAMPLES, len(moments)))
        shares = right[draws].sum(1) / counts[draws].sum(1)
        low, high = np.quantile(shares, [0.025, 0.975]).round(4).tolist()
        yield check, len(better), name, round(float(right.sum() / counts.sum()), 4), low, high


def fitted(sets: list[Photos], places: list[int]) -> Doubles:
    """Weights of a Bradley-Terry model on some inputs; each set of pairs counts equally."""
    differences, shares = [], []
    for photos in sets:
        better, worse = photos.pairs()
        differences.append((photos.inputs[better] - photos.inputs[worse])[:, places])
        shares.append(np.full(len(better), 1 / len(better)))
    apart = np.concatenate(differences)
    share = np.concatenate(shares) * len(apart) / len(sets)
    scale = apart.std(0)
    scaled = apart / scale

    def loss(weights: Doubles) -> tuple[float, Doubles]:
        margin = scaled @ weights
        wrong = share / (1 + np.exp(margin))
        value = (share * np.logaddexp(0, -margin)).sum() + RIDGE * weights @ weights
        return float(value), 2 * RIDGE * weights - scaled.T @ wrong

    found = minimize(loss, np.zeros(len(places)), jac=True, method="L-BFGS-B")
    return np.asarray(found.x / scale, np.float64)


def _without(photos: Photos, fold: int) -> Photos:
    """The photos of all moments except a fold's."""
    wanted = photos.moment % FOLDS != fold
    return Photos(
        photos.moment[wanted],
        photos.opinion[wanted],
        photos.error[wanted],
        photos.inputs[wanted],
        tuple(kind for kind, want in zip(photos.kind, wanted, strict=True) if want),
        photos.seen[wanted],
    )


if __name__ == "__main__":
    main()
