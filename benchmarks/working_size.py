"""At which size should photos be looked at? Frozen features and a ridge, one crop per photo.

    python benchmarks/working_size.py --root ../shared/data/biq2021

ViT-Tiny's ImageNet features (class token, mean and standard deviation of the patch tokens) of one
random 224 x 224 crop of each photo, reduced to a shorter side of 224, 288, 384 or left at 512; a
ridge fitted on 2,000 photos, its strength chosen on 300 of them, SRCC on 1,000 others, all out of
the train and validation parts of the split (the test part is not touched). Writes
benchmarks/results/working_size.csv. The backbone's weights: see QFM_BACKBONE_DIR.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.metrics.evaluation import evaluate
from qfm_iqm.model.backbone import TimmEncoder
from qfm_iqm.model.weights import backbone_state
from qfm_iqm.training.batches import CropDataset, Sample

RESULTS = Path(__file__).parent / "results" / "working_size.csv"
BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
RIDGES = (30.0, 100.0, 300.0, 1000.0, 3000.0)


def main() -> None:
    """Measures each size, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    root = parser.parse_args().root
    table = read_table(root / "labelled.csv")
    parts = split_by_content(table).indices(table)
    usable = np.concatenate([parts["train"], parts["validation"]])
    table = table.select(np.random.default_rng(0).permutation(usable)[:3000])
    assert table.mos is not None
    encoder = TimmEncoder(BACKBONE, state=backbone_state(None, BACKBONE)).eval()
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["shorter_side", "part", "metric", "images", "value", "ci_low", "ci_high"])
        for side in (224, 288, 384, 512):
            samples = [Sample(path, 0.0, 0) for path in table.paths(root)]
            features = encode(encoder, samples, Preprocessing(crop=224, shorter_side=side))
            scores = ridge_scores(features, table.mos)
            scored = table.select(np.arange(2000, 3000))
            result = evaluate(scores, table.mos[2000:], groups=scored.group("subset"))
            for row in result.rows:
                if row.metric in ("srcc", "plcc"):
                    ends = (row.ci_low, row.ci_high)
                    writer.writerow([side, row.part, row.metric, row.n, row.value, *ends])
            whole, mean = result.value("whole", "srcc"), result.value("subset_mean", "srcc")
            print(f"{side}: SRCC {whole:.4f}, mean over subsets {mean:.4f}", flush=True)


@torch.inference_mode()
def encode(encoder: TimmEncoder, samples: list[Sample], preprocessing: Preprocessing) -> np.ndarray:
    """Features (N, 3 D) of one random crop of each image."""
    crops = CropDataset(samples, preprocessing, seed=0)
    found = []
    for start in range(0, len(samples), 50):
        batch = torch.stack([crops[i].crop for i in range(start, start + 50)]).float() / 255
        tokens = encoder(batch)
        patches = tokens[:, 1:]
        found.append(torch.cat([tokens[:, 0], patches.mean(1), patches.std(1)], 1))
    return torch.cat(found).double().numpy()


def ridge_scores(features: np.ndarray, mos: np.ndarray) -> np.ndarray:
    """Scores of rows 2000 on by a ridge fitted on the rows before, its strength chosen there."""
    features = (features - features[:2000].mean(0)) / features[:2000].std(0)

    def fit(rows: slice, strength: float) -> np.ndarray:
        x, y = features[rows], mos[rows] - mos[:2000].mean()
        weights: np.ndarray = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)
        return weights

    held = slice(1700, 2000)
    errors = [
        np.mean((features[held] @ fit(slice(0, 1700), s) - mos[held] + mos[:2000].mean()) ** 2)
        for s in RIDGES
    ]
    scores: np.ndarray = features[2000:] @ fit(slice(0, 2000), RIDGES[int(np.argmin(errors))])
    return scores


if __name__ == "__main__":
    main()
