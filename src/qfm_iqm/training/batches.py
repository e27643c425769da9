"""Batches of crops: which pixels and labels a training step sees.

Design choices:
* What is random in a crop (place, mirroring) depends on (seed, epoch, place in the epoch) alone:
  the same for any number of reading processes, and after a resume in mid-epoch.
* Crops are cut from images that went through the model's own `resize_and_pad`, as in scoring.
* Where a model looks at images in several sizes, so does training: each random crop is of one;
  fixed ones and a teacher's are of the first.
* With a feature cache, a crop comes as what the frozen part of the encoder gives for it.

Shapes: C channels, S crop size, N patch tokens, P tokens before them, D token width.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from qfm_iqm.errors import ImageError
from qfm_iqm.image.preprocess import Preprocessing, further_sizes
from qfm_iqm.image.preprocess_torch import resized
from qfm_iqm.image.resize import as_bytes, read_resized
from qfm_iqm.training.augmentation import Augmentation
from qfm_iqm.training.feature_cache import FeatureCache, fixed_crop, random_crop

UNPAIRED = -1


@dataclass(frozen=True)
class Sample:
    """One thing to learn from.

    Attributes:
        path: of the image.
        label: in label units.
        content: id of the content, the same for near-identical images.
        place: top and left of the crop that a teacher scored; None draws a crop at random each
            epoch.
        supervised: whether the label is people's, or may be learned as if it were; False for the
            unlabeled images of DLE, which have terms of their own in the objective.
        group: id of the subset that its quality is compared within.
        degraded: whether the image is learned from degraded; see `training.augmentation`.
        paired: whether a degraded one comes as a pair, the image as it is beside it.
    """

    path: Path
    label: float
    content: int
    place: tuple[int, int] | None = None
    supervised: bool = True
    group: int = 0
    degraded: bool = False
    paired: bool = False


class LearnedCrop(NamedTuple):
    """One crop as it is learned from.

    Attributes:
        crop: (3, S, S) uint8, or frozen features.
        label: in label units.
        content: id.
        supervised: whether the label is people's, or may be learned as if it were.
        group: id of the subset that its quality is compared within.
        pair: id that the two crops of a pair share; `UNPAIRED` of any other.
    """

    crop: Tensor
    label: float
    content: int
    supervised: bool
    group: int
    pair: int


class Batch(NamedTuple):
    """Crops that a step learns from; as in `LearnedCrop`, with a dimension before the others."""

    crop: Tensor
    label: Tensor
    content: Tensor
    supervised: Tensor
    group: Tensor
    pair: Tensor

    def input(self) -> Tensor:
        """What the network takes: pixels of 8 bits as floats, frozen features as they are."""
        return self.crop.float() / 255 if self.crop.dtype == torch.uint8 else self.crop


def collate(samples: Sequence[Sequence[LearnedCrop]]) -> Batch:
    """Stacks the crops of samples to a batch."""
    return Batch(*default_collate([tuple(crop) for crops in samples for crop in crops]))


class ImageStore:
    """Resized and padded images, uint8 (3, H, W); with `keep` each is decoded only once."""

    def __init__(self, preprocessing: Preprocessing, *, keep: bool) -> None:
        self._preprocessing = preprocessing
        self._kept: dict[Path, Tensor] | None = {} if keep else None

    def get(self, path: Path) -> Tensor:
        """The resized image as uint8; ImageError if it cannot be read."""
        if self._kept is not None and path in self._kept:
            return self._kept[path]
        image = self._read(path)
        if self._kept is not None:
            self._kept[path] = image
        return image

    def fill(self, paths: Iterable[Path]) -> None:
        """Reads images on all cores, and keeps them; ImageError if one cannot be read."""
        if self._kept is None:
            return
        missing = [path for path in dict.fromkeys(paths) if path not in self._kept]
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="read") as pool:
            self._kept.update(zip(missing, pool.map(self._read, missing), strict=True))

    def _read(self, path: Path) -> Tensor:
        return torch.from_numpy(as_bytes(read_resized(path, self._preprocessing).pixels))


class CropDataset(Dataset[list[LearnedCrop]]):
    """Crops as they are learned from in an epoch: one of each sample, or the two of a pair.

    Args:
        samples: what to learn from.
        preprocessing: of the model.
        seed: of what is drawn.
        flip: mirror half of the crops.
        cache: keep decoded images in memory.
        fixed_crops: draw the crops of an image out of so many that never change; None draws
            another place each time.
        features: gives the frozen features (P + N, D) float32 in place of each such crop.
        augmentation: has whole photos in place of random crops, and their labels.

    Attributes:
        epoch: whose crops are drawn. No method `set_epoch`: accelerate's loader would call it
            with a count of its own, which begins at 0 again after a resume.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        *,
        seed: int,
        flip: bool = True,
        cache: bool = False,
        fixed_crops: int | None = None,
        features: FeatureCache | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.samples = samples
        self.epoch = 0
        self._preprocessing = preprocessing
        self._size = preprocessing.crop
        self._seed = seed
        self._flip = flip
        self._fixed_crops = fixed_crops
        self._features = features
        self._augmentation = augmentation
        # What is augmented is so at its own size.
        stored = preprocessing if augmentation is None else Preprocessing(crop=16)
        self._store = ImageStore(stored, keep=cache)

    def fill(self) -> None:
        """Reads what the cache will be asked for; ImageError if an image cannot be read."""
        self._store.fill(sample.path for sample in self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> list[LearnedCrop]:
        sample = self.samples[index]
        draw = np.random.default_rng([self._seed, self.epoch, index])
        if self._augmentation is not None:
            pixels_HWC = self._store.get(sample.path).numpy().transpose(1, 2, 0)
            if sample.paired:
                shown = self._augmentation.pair(pixels_HWC, sample.label, draw)
            else:
                degraded = sample.degraded
                shown = [self._augmentation(pixels_HWC, sample.label, draw, degraded=degraded)]
            crops = [(torch.from_numpy(pixels_CSS), label) for pixels_CSS, label in shown]
        elif sample.place is None:
            crops = [(self._random(sample, draw), sample.label)]
        else:
            flip = self._flip and draw.random() < 0.5
            crop = self._scored(sample.path, sample.place)
            crops = [(crop.flip(-1) if flip else crop, sample.label)]
        pair = index if sample.paired else UNPAIRED
        return [
            LearnedCrop(crop, label, sample.content, sample.supervised, sample.group, pair)
            for crop, label in crops
        ]

    def _scored(self, path: Path, place: tuple[int, int]) -> Tensor:
        """The crop of the image that a teacher scored."""
        (top, left), size = place, self._size
        crop = self._store.get(path)[:, top : top + size, left : left + size]
        if crop.shape[1:] != (size, size):
            raise ImageError(
                f"The pseudo-labelled crop at row {top}, column {left} lies outside of {path}: the "
                "file is not the one that the teacher scored."
            )
        return crop

    def _random(self, sample: Sample, draw: np.random.Generator) -> Tensor:
        """A crop of the image at a random place, or its frozen features."""
        if self._fixed_crops is None:
            image_CHW = self._store.get(sample.path)
            height, width = image_CHW.shape[-2:]
            further = list(further_sizes(height, width, self._preprocessing))
            if further and (place := int(draw.integers(len(further) + 1))):
                image_CHW = resized(image_CHW, further[place - 1], self._preprocessing.resample)
            crop = random_crop(image_CHW, self._size, draw, flip=self._flip)
        else:
            place = int(draw.integers(self._fixed_crops))
            if self._features is not None:
                return self._features.random(sample.path, place)
            image_CHW = self._store.get(sample.path)
            crop = fixed_crop(image_CHW, self._size, sample.path.name, place, flip=self._flip)
        return crop


class EpochOrder(Sampler[list[int]]):
    """Batches of samples in an order drawn from (seed, epoch); the last short one is dropped.

    An epoch is one pass over the supervised samples, which come first in the dataset. Each batch
    may go on with pairs and end with unlabeled samples (DLE). Both are drawn in passes of their
    own: as many passes, or as small a part of one, as the epoch has room for.

    Args:
        supervised: number of supervised samples without pairs.
        batch_size: of these in a batch.
        pairs: number of samples behind them that are pairs.
        pairs_batch: of these in a batch.
        unlabeled: number of unlabeled samples behind the pairs.
        unlabeled_batch: of these in a batch.
        seed: of the order.

    Attributes:
        epoch: whose order is given out.
        start: first batch to give out: where an interrupted epoch goes on.
    """

    def __init__(
        self,
        supervised: int,
        batch_size: int,
        *,
        pairs: int = 0,
        pairs_batch: int = 0,
        unlabeled: int = 0,
        unlabeled_batch: int = 0,
        seed: int,
    ) -> None:
        self._supervised = supervised
        self._batch = min(batch_size, supervised)
        self._beside = (  # first, number, of these in a batch, what tells the draws apart
            (supervised, pairs, pairs_batch, 2),
            (supervised + pairs, unlabeled, unlabeled_batch, 1),
        )
        self._seed = seed
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self._supervised // self._batch - self.start

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._supervised // self._batch
        supervised = np.random.default_rng([self._seed, self.epoch]).permutation(self._supervised)
        orders = [(supervised, self._batch)]
        for first, number, each, stream in self._beside:
            if number and each:
                draw = np.random.default_rng([self._seed, self.epoch, stream])
                passes = -(-batches * each // number)
                order = np.concatenate([draw.permutation(number) for _ in range(passes)])
                orders.append((first + order, each))
        for i in range(self.start, batches):
            parts = [order[i * each : (i + 1) * each] for order, each in orders]
            yield np.concatenate(parts).tolist()
