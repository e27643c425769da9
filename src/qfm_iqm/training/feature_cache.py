"""Feature cache: the frozen part's features of crops, kept on disk.

Training only the last blocks of a backbone is far cheaper than training all of it if the frozen
blocks are not computed again in every epoch. Their features are constant for crops that never
change: the crops that cover an image (validation, test) and a fixed number of random crops
(training).

Design choices:
* Two files per image, in a folder named by a hash of the frozen weights and the preprocessing: runs
  of any seed, split and method share them; a changed backbone or image gets new files.
* float16: rounding changes a score by less than a thousandth of the labels' standard deviation
  (bfloat16: ten times as much).

Shapes: K crops, N patch tokens, P tokens before them, D token width.
"""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qfm_iqm.errors import ImageError
from qfm_iqm.files import text_hash
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.load import Reading
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import covering_crops, resize_and_pad
from qfm_iqm.model.delta import add_weights
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.crop_stream import CroppedImage
from qfm_iqm.scoring.runtimes.base import stacked

_GROUP = 8  # images whose crops go through the frozen part together


def random_crop(image_CHW: Tensor, size: int, draw: np.random.Generator, *, flip: bool) -> Tensor:
    """A crop at a random position; with `flip`, mirrored half of the time."""
    top = int(draw.integers(image_CHW.shape[1] - size + 1))
    left = int(draw.integers(image_CHW.shape[2] - size + 1))
    crop = image_CHW[:, top : top + size, left : left + size]
    return crop.flip(-1) if flip and draw.random() < 0.5 else crop


def fixed_crop(image_CHW: Tensor, size: int, name: str, place: int, *, flip: bool) -> Tensor:
    """Number `place` of an image's fixed crops; the same in every run."""
    draw = np.random.default_rng([zlib.crc32(name.encode(errors="surrogateescape")), place])
    return random_crop(image_CHW, size, draw, flip=flip)


class FeatureCache:
    """The cached features of a model's frozen part for crops.

    Args:
        folder: folder of all caches; created if missing.
        model: the model with the frozen encoder; it computes missing features.
        fixed_crops: number of fixed random crops per image.
        flip: mirror half of these crops.
    """

    def __init__(self, folder: Path, model: QualityModel, *, fixed_crops: int, flip: bool) -> None:
        self._model = model
        self._preprocessing: Preprocessing = model.card.preprocessing
        self._fixed_crops = fixed_crops
        self._flip = flip
        self._folder = folder / _features_hash(model)
        self._known: set[Path] = set()  # files known to be complete
        self._random = f"random{fixed_crops}{'-flip' * flip}"

    def random(self, path: Path, place: int) -> Tensor:
        """The frozen features (P + N, D) of one fixed crop of an image, in float32."""
        with safe_open(self._filled_file(path, self._random), framework="pt") as content:
            tokens: Tensor = content.get_slice("tokens")[place]
        return tokens.float()

    def random_fixed_crops(self, path: Path, most: int) -> CroppedImage:
        """The frozen features of the first `most` fixed crops of an image."""
        return self._kept(path, self._random, most)

    def covering(self, path: str) -> CroppedImage:
        """The frozen features of the crops that cover an image; a `source` for `Scorer`."""
        return self._kept(Path(path), "cover")

    def fill(
        self,
        learned: Sequence[Path],
        covering: Sequence[Path],
        progress: Callable[[Iterator[Path], int], Iterator[Path]],
        *,
        lenient: bool = False,
    ) -> None:
        """Computes the missing features for the images of a run.

        Args:
            learned: images whose fixed crops are needed.
            covering: images whose covering crops are needed.
            progress: wraps the iterator over finished images; also gets their number.
            lenient: skip images that cannot be read; a later request for one raises the error.

        Raises:
            ImageError: an image cannot be read.
        """
        wanted = {
            kind: [path for path in dict.fromkeys(paths) if not self._holds(path, kind)]
            for kind, paths in ((self._random, learned), ("cover", covering))
        }
        done = (
            path for kind, paths in wanted.items() for path in self._filled(paths, kind, lenient)
        )
        if total := sum(map(len, wanted.values())):
            for _ in progress(done, total):
                pass

    def _kept(self, path: Path, kind: str, most: int | None = None) -> CroppedImage:
        with safe_open(self._filled_file(path, kind), framework="pt") as content:
            tokens_KND = content.get_tensor("tokens")[:most].float()
            size = content.metadata()
        reading = Reading(str(path), width=int(size["width"]), height=int(size["height"]))
        return reading, list(tokens_KND)

    def _filled_file(self, path: Path, kind: str) -> Path:
        """The file of an image's tokens; computed now if missing."""
        file = self._file(path, kind)
        if not self._holds(path, kind):
            for _ in self._filled([path], kind):
                pass
        return file

    @torch.inference_mode()
    def _filled(self, paths: Sequence[Path], kind: str, lenient: bool = False) -> Iterator[Path]:
        """Computes and writes the tokens of images; yields each path when it is done."""
        if not paths:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        encoder = self._model.network.encoder
        with ThreadPoolExecutor(2, thread_name_prefix="read") as pool:
            for first in range(0, len(paths), _GROUP):
                group = paths[first : first + _GROUP]
                # Another run may have written some of these images in the meantime.
                missing = [path for path in group if not self._holds(path, kind)]
                yield from (path for path in group if path not in missing)
                if not missing:
                    continue
                read = self._crops_or_none if lenient else self._crops
                known = zip(missing, pool.map(read, missing, [kind] * len(missing)), strict=True)
                found = {path: crops for path, crops in known if crops is not None}
                if not found:
                    continue
                each = [crop for _, crops in found.values() for crop in crops]
                crops_BCSS = torch.from_numpy(stacked(each))
                features_BND = (
                    encoder.frozen_features(crops_BCSS.to(self._model.network.scale.mean.device))
                    .cpu()
                    .half()
                )
                parts = torch.split(features_BND, [len(crops) for _, crops in found.values()])
                for (path, (reading, _)), tokens_KND in zip(found.items(), parts, strict=True):
                    size = {"width": str(reading.width), "height": str(reading.height)}
                    file = self._file(path, kind)
                    partial = file.with_suffix(f".{os.getpid()}.partial")  # others may write it too
                    save_file({"tokens": tokens_KND.clone()}, partial, metadata=size)
                    partial.replace(file)
                    yield path

    def _crops(self, path: Path, kind: str) -> CroppedImage:
        """The crops of an image that the cache stores tokens of."""
        image_CHW = read_image(path)
        height, width = image_CHW.shape[-2:]
        reading = Reading(str(path), width=width, height=height)
        resized_CHW = resize_and_pad(image_CHW, self._preprocessing)
        if kind == "cover":
            return reading, list(covering_crops(resized_CHW, self._preprocessing))
        # Training also cuts its crops from 8-bit pixels.
        pixels_CHW = resized_CHW.mul(255).round().div(255)
        return reading, [
            fixed_crop(pixels_CHW, self._preprocessing.crop, path.name, place, flip=self._flip)
            for place in range(self._fixed_crops)
        ]

    def _crops_or_none(self, path: Path, kind: str) -> CroppedImage | None:
        try:
            return self._crops(path, kind)
        except ImageError:
            return None

    def _holds(self, path: Path, kind: str) -> bool:
        """Whether the tokens of an image exist and are complete."""
        file = self._file(path, kind)
        if file not in self._known:
            try:
                with safe_open(file, framework="pt"):
                    self._known.add(file)
            except (OSError, SafetensorError):
                return False
        return True

    def _file(self, path: Path, kind: str) -> Path:
        """The file of an image's tokens; a changed image gets another file."""
        try:
            told = path.stat()
            state = f"{path.absolute()}:{told.st_size}:{told.st_mtime_ns}"
        except OSError:
            state = str(path)  # reading it will say why
        key = text_hash(state)[:24]
        return self._folder / f"{key}.{kind}.safetensors"


def _features_hash(model: QualityModel) -> str:
    """Hash that identifies frozen features: weights, depth and preprocessing."""
    # Options that are None are left out, so that a new option keeps existing caches valid.
    preprocessing = model.card.preprocessing.model_dump_json(exclude_none=True)
    digest = hashlib.sha256(preprocessing.encode())
    encoder = model.network.encoder
    for number, part in enumerate(encoder.frozen):
        add_weights(digest, part.state_dict().items(), f"{number}:")
    add_weights(digest, encoder.backbone.named_parameters(recurse=False))
    return digest.hexdigest()[:24]
