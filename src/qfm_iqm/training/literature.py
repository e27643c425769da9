"""The literature's evaluation protocol, for comparison with published figures.

DEIQT and its descendants report, for every split, the epoch with the best *test* figure: the
protocol "test-selected". Each practice below changes the figures, and most raise them; the protocol
"validation-selected" has none of them.

    best test epoch   the test split is scored after every epoch, and the highest SRCC is reported
    random crops      a test image's score is the mean over ten random, randomly mirrored crops,
                      redrawn each epoch (seeded here; unseeded in the literature)
    squeeze           photos of KonIQ-10k and SPAQ are resized to 512 x 384 (height x width),
                      whatever their aspect ratio
    no warm-up prefix the step schedule runs during the warm-up, as timm's does by default: with 3
                      epochs of each, the rate decays as soon as it reaches its peak

A run under this protocol also selects by validation and tests once, as every run does: both figures
come from one training.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.load import Reading
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import resize_and_pad
from qfm_iqm.metrics.correlation import METRICS
from qfm_iqm.scoring.crop_stream import CroppedImage, CropSource
from qfm_iqm.training.feature_cache import FeatureCache, random_crop

EPOCH_METRICS = ("srcc", "plcc", "krcc", "rmse")  # per epoch; the literature fits no logistic curve
TEST_CROPS = 10


def habits(dataset: str | None) -> dict[str, Any]:
    """The recipe keys that the literature's protocol changes, with their values."""
    keys: dict[str, Any] = {"protocol": "test-selected", "train.warmup_prefix": False}
    squeezed = None if dataset is None else DATASETS[dataset].squeezed
    if squeezed is not None:
        keys |= {"network.squeeze": list(squeezed), "network.shorter_side": None}
    return keys


def random_crops(
    preprocessing: Preprocessing,
    *,
    seed: int,
    epoch: int,
    flip: bool,
    features: FeatureCache | None,
) -> CropSource:
    """A source of random test crops for a `Scorer`; they depend only on file, seed and epoch.

    Args:
        preprocessing: the model's preprocessing.
        seed: the run's seed.
        epoch: number of the epoch.
        flip: mirror half of the crops.
        features: a feature cache; if given, up to ten of its fixed crops are used instead.
    """

    def source(path: str) -> CroppedImage:
        if features is not None:
            return features.random_fixed_crops(Path(path), TEST_CROPS)
        image_CHW = read_image(path)
        height, width = image_CHW.shape[-2:]
        resized_CHW = resize_and_pad(image_CHW, preprocessing)
        name = zlib.crc32(Path(path).name.encode(errors="surrogateescape"))
        draw = np.random.default_rng([seed, epoch, name])
        crops = [
            random_crop(resized_CHW, preprocessing.crop, draw, flip=flip) for _ in range(TEST_CROPS)
        ]
        return Reading(path, width=width, height=height), crops

    return source


def best_test_epoch(log: Path) -> tuple[int, dict[str, float]] | None:
    """The epoch with the highest test SRCC in a run's log, and its figures by `subset/metric`.

    If an interruption made an epoch score twice, the last entry counts.

    Args:
        log: a run's `log.jsonl`.

    Returns:
        (epoch, counted from 0; figures), or None if no epoch has a figure.
    """
    epochs: dict[int, dict[str, float]] = {}
    for line in log.read_text("utf-8").splitlines():
        entry = json.loads(line)
        if entry["kind"] == "test-selected":
            epochs[entry["epoch"]] = {
                key: value
                for key, value in entry.items()
                if key.rpartition("/")[2] in METRICS and value is not None
            }
    known = {epoch: figures for epoch, figures in epochs.items() if "whole/srcc" in figures}
    if not known:
        return None
    best = max(known, key=lambda epoch: known[epoch]["whole/srcc"])
    return best, known[best]
