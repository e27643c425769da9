"""The literature's protocol, to compare with its figures: what it does, by name.

DEIQT and its descendants report, of every split, the best epoch *by its test figure*: the protocol
"test-selected". Each habit here moves a figure, most of them up; the protocol "validation-selected"
has none of them.

    best test epoch   the test split is scored after every epoch, and the highest SRCC is reported
    random crops      test images are scored by ten random, perhaps mirrored crops, drawn anew each
                      epoch, and their mean (seeded here; the literature's are not)
    squeeze           KonIQ-10k's and SPAQ's photos are brought to 512 x 384 (high x wide),
                      whatever their aspect
    no warm-up prefix the step schedule runs while the rate still warms up, as timm's does by
                      default: with 3 epochs of each, the peak rate is never held

A run of this protocol also selects by validation and tests once, as every run does: both figures
come out of the same weights.
"""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import resize_and_pad
from qfm_iqm.metrics.correlation import METRICS
from qfm_iqm.scoring.crop_stream import Crops
from qfm_iqm.training.feature_cache import FeatureCache, random_crop

EPOCH_METRICS = ("srcc", "plcc", "krcc", "rmse")  # of every epoch; the literature fits no curve
TEST_CROPS = 10


def habits(dataset: str | None) -> dict[str, Any]:
    """The recipe's keys that the literature's protocol changes, with their values."""
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
) -> Callable[[str], Crops]:
    """A source of random test crops for a `Scorer`: of file, seed and epoch, of nothing else.

    Args:
        preprocessing: of the model.
        seed: of the run.
        epoch: whose crops are drawn.
        flip: mirror half of them.
        features: takes the crops out of those that never change, up to ten of them.
    """

    def source(path: str) -> Crops:
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
        return Crops(crops, width, height)

    return source


def best_test_epoch(log: Path) -> tuple[int, dict[str, float]] | None:
    """The epoch with the highest test SRCC in a run's log, and its figures by `subset/metric`.

    An epoch that was scored twice, before and after an interruption, counts as the last time.

    Args:
        log: `log.jsonl` of a run.

    Returns:
        (epoch from 0, figures), or None if no epoch has a figure.
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
