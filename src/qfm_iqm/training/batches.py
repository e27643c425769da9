"""Batches of crops: the pixels and labels of a training step.

Design choices:
* The position and mirroring of a crop depend only on (seed, epoch, index of the sample). They are
  the same for any number of reading processes, and after a resume in mid-epoch.
* Crops are cut from images that went through the model's own `resize_and_pad`, as in scoring.
* If a model uses several image sizes, each random crop comes from one of them; fixed crops and
  crops that a teacher scored come from the first.
* With a feature cache, a crop is replaced by the output of the encoder's frozen part.

Shapes: C channels, S crop size, N patch tokens, P tokens before them, D token width.
"""

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
from qfm_iqm.image.memory_budget import usable_cores
from qfm_iqm.image.preprocess import Preprocessing, further_sizes
from qfm_iqm.image.preprocess_torch import resized
from qfm_iqm.image.resize import as_bytes, read_resized
from qfm_iqm.training.augmentation import Augmentation
from qfm_iqm.training.feature_cache import FeatureCache, fixed_crop, random_crop

UNPAIRED = -1


@dataclass(frozen=True)
class Sample:
    """One training sample.

    Attributes:
        path: path of the image.
        label: label, in label units.
        content: id of the content, the same for near-identical images.
        place: top and left of the crop that a teacher scored; None takes a random crop each epoch.
        supervised: True for people's labels and for pseudo-labels of a table; False for the
            unlabeled images of DLE, which have their own terms in the objective.
        group: id of the subset within which qualities are compared.
        degraded: whether the image is degraded; see `training.augmentation`.
        paired: whether a degraded image comes in a pair with its original.
    """

    path: Path
    label: float
    content: int
    place: tuple[int, int] | None = None
    supervised: bool = True
    group: int = 0
    degraded: bool = False
    paired: bool = False


class Batch(NamedTuple):
    """The B crops of a training step.

    Attributes:
        crop: (B, 3, S, S) uint8, or frozen features.
        label: (B,) labels, in label units.
        content: (B,) ids of the contents.
        supervised: (B,) as in `Sample`.
        group: (B,) ids of the subsets within which qualities are compared.
        pair: (B,) ids shared by the two crops of a pair; `UNPAIRED` for other crops.
    """

    crop: Tensor
    label: Tensor
    content: Tensor
    supervised: Tensor
    group: Tensor
    pair: Tensor

    def input(self) -> Tensor:
        """The network's input: 8-bit pixels scaled to [0, 1]; frozen features unchanged."""
        return self.crop.float() / 255 if self.crop.dtype == torch.uint8 else self.crop


LearnedCrop = tuple[Tensor, float, int, bool, int, int]
"""The fields of a `Batch` for one of its crops."""


def collate(samples: Sequence[Sequence[LearnedCrop]]) -> Batch:
    """Stacks the crops of samples into a batch."""
    return Batch(*default_collate([crop for crops in samples for crop in crops]))


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
        with ThreadPoolExecutor(usable_cores(), thread_name_prefix="read") as pool:
            self._kept.update(zip(missing, pool.map(self._read, missing), strict=True))

    def _read(self, path: Path) -> Tensor:
        return torch.from_numpy(as_bytes(read_resized(path, self._preprocessing).pixels))


class CropDataset(Dataset[list[LearnedCrop]]):
    """The crops of an epoch: one for each sample, two for a pair.

    Args:
        samples: the training samples.
        preprocessing: the model's preprocessing.
        seed: seed of the random draws.
        flip: mirror half of the crops.
        cache: keep decoded images in memory.
        fixed_crops: number of fixed crops per image to draw from; None draws a new position each
            time.
        features: replaces each fixed crop by its frozen features (P + N, D) float32.
        augmentation: augments whole photos and their labels, instead of random crops.

    Attributes:
        epoch: the epoch whose crops are drawn. There is no method `set_epoch`: accelerate's loader
            would call it with its own count, which restarts at 0 after a resume.
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
        # Augmentation needs photos at their own size.
        stored = preprocessing if augmentation is None else Preprocessing(crop=16)
        self._store = ImageStore(stored, keep=cache)

    def fill(self) -> None:
        """Reads all images into the cache; ImageError if one cannot be read."""
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
            (crop, label, sample.content, sample.supervised, sample.group, pair)
            for crop, label in crops
        ]

    def _scored(self, path: Path, place: tuple[int, int]) -> Tensor:
        """The crop of the image that a teacher scored."""
        (top, left), size = place, self._size
        crop = self._store.get(path)[:, top : top + size, left : left + size]
        if crop.shape[1:] != (size, size):
            raise ImageError(
                f"The pseudo-labeled crop at row {top}, column {left} lies outside {path}: the "
                "file is not the one that the teacher scored."
            )
        return crop

    def _random(self, sample: Sample, draw: np.random.Generator) -> Tensor:
        """A random crop of the image, or its frozen features."""
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
    """Batches of samples in an order drawn from (seed, epoch); drops the last incomplete batch.

    An epoch is one pass over the supervised samples, which come first in the dataset. In each
    batch, pairs and then unlabeled samples (DLE) may follow. Both are shuffled separately; an epoch
    takes as many passes over them, or as small a share of one, as its batches need.

    Args:
        supervised: number of supervised samples without pairs.
        batch_size: supervised samples per batch.
        pairs: number of pairs, which follow these samples.
        pairs_batch: pairs per batch.
        unlabeled: number of unlabeled samples, which follow the pairs.
        unlabeled_batch: unlabeled samples per batch.
        seed: seed of the order.

    Attributes:
        epoch: the epoch whose order is used.
        start: first batch to yield; an interrupted epoch resumes there.
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
        self._beside = (  # first index, number, number per batch, random stream
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
