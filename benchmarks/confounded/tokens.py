"""Tokens of degraded photos from a frozen backbone, computed once and stored on disk.

A sheet is a photo with one type of degradation at all its levels, or the clean photo. Each sheet
has its own file, which is named by a hash of everything it depends on and written atomically. A
killed computation thus resumes, and processes that share a folder share the work.

Shapes: L levels of a sheet, S crop size, N patch tokens, D token width.
"""

import hashlib
import math
import os
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from qfm_iqm.arrays import Bytes
from qfm_iqm.files import replacing, text_hash
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.distortions import distort
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import center_square, eight_bits, resize_and_pad, resized
from qfm_iqm.model.delta import add_weights

_SHEETS = 4  # sheets per forward pass


class Sheet(NamedTuple):
    """Crops of one photo.

    Attributes:
        path: path of the photo.
        kind: type of degradation; None for the clean photo.
        strengths: strengths, one crop each; empty for the clean photo.
    """

    path: Path
    kind: str | None = None
    strengths: tuple[float, ...] = ()

    @property
    def crops(self) -> int:
        """Number of crops."""
        return max(1, len(self.strengths))


def crops_of(sheet: Sheet, *, side: int, crop: int) -> Tensor:
    """The crops (L, 3, S, S) of a sheet: the center square, degraded and then reduced.

    Args:
        sheet: the sheet.
        side: largest side of the square when it is degraded.
        crop: crop size S.

    Raises:
        ImageError: the photo cannot be read.
    """
    square_CSS = center_square(read_image(sheet.path))
    if square_CSS.shape[-1] > side:
        square_CSS = resized(square_CSS, (side, side))
    pixels = np.ascontiguousarray(eight_bits(square_CSS).permute(1, 2, 0).numpy())
    found = [pixels]
    if sheet.kind is not None:
        seeds = (
            zlib.crc32(f"{sheet.path.name}:{sheet.kind}:{strength}".encode())
            for strength in sheet.strengths
        )
        found = [
            _degraded(pixels, sheet.kind, strength, seed)
            for strength, seed in zip(sheet.strengths, seeds, strict=True)
        ]
    small = Preprocessing(crop=crop, shorter_side=crop)
    return torch.stack(
        [
            resize_and_pad(torch.from_numpy(np.array(one)).permute(2, 0, 1).float() / 255, small)
            for one in found
        ]
    )


def _degraded(pixels_HWC: Bytes, kind: str, strength: float, seed: int) -> Bytes:
    """Degrades pixels; "denoise" is as in the registered runs, before `distort` was changed."""
    if kind == "denoise":  # a bilateral filter, which smears fine texture
        return np.asarray(cv2.bilateralFilter(pixels_HWC, 5, 3 * 255 * strength, 2), np.uint8)
    return distort(pixels_HWC, kind, strength, seed)


def pooled(tokens_BND: Tensor, grid: int) -> Tensor:
    """Averages patch tokens to a grid of this side; smaller grids are left unchanged."""
    side = math.isqrt(tokens_BND.shape[1] - 1)
    if side <= grid:
        return tokens_BND
    map_BDHW = tokens_BND[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    patches_BND = functional.adaptive_avg_pool2d(map_BDHW, grid).flatten(2).transpose(1, 2)
    return torch.cat([tokens_BND[:, :1], patches_BND], 1)


class TokenStore:
    """Stores tokens of sheets, in float16, in a folder.

    Args:
        folder: folder of all stores; created if missing.
        encoder: the frozen backbone.
        side: see `crops_of`.
        crop: see `crops_of`.
        grid: see `pooled`.
    """

    def __init__(self, folder: Path, encoder: nn.Module, *, side: int, crop: int, grid: int):
        self.encoder = encoder.eval()
        self.side, self.crop, self.grid = side, crop, grid
        digest = hashlib.sha256(f"{side}:{crop}:{grid}".encode())
        add_weights(digest, encoder.state_dict().items())
        self._folder = folder / digest.hexdigest()[:24]
        self._photos: dict[Path, str] = {}

    def fill(self, sheets: Sequence[Sheet]) -> Iterator[Sheet]:
        """Computes the missing sheets, and yields each sheet when it is done.

        Raises:
            ImageError: a photo cannot be read.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = [sheet for sheet in sheets if not self._file(sheet).is_file()]
        groups = [missing[i : i + _SHEETS] for i in range(0, len(missing), _SHEETS)]
        # Each process has its own order, so that they rarely compute the same sheets.
        random.Random(os.getpid()).shuffle(groups)
        for group in groups:
            wanted = [sheet for sheet in group if not self._file(sheet).is_file()]
            if wanted:
                self._compute(wanted)
            yield from group

    def load(self, sheets: Iterable[Sheet]) -> Tensor:
        """Loads the tokens (sum of L, 1 + N, D) of existing sheets, in order."""
        arrays: list[npt.NDArray[np.float16]] = [np.load(self._file(sheet)) for sheet in sheets]
        return torch.from_numpy(np.concatenate(arrays))

    @torch.inference_mode()
    def _compute(self, sheets: Sequence[Sheet]) -> None:
        crops = [crops_of(sheet, side=self.side, crop=self.crop) for sheet in sheets]
        tokens_BND = pooled(self.encoder(torch.cat(crops)), self.grid).half()
        parts = tokens_BND.split([sheet.crops for sheet in sheets])
        for sheet, tokens_LND in zip(sheets, parts, strict=True):
            with replacing(self._file(sheet)) as partial, partial.open("wb") as file:
                np.save(file, tokens_LND.numpy(), allow_pickle=False)

    def _file(self, sheet: Sheet) -> Path:
        if sheet.path not in self._photos:
            digest = hashlib.sha256(sheet.path.name.encode(errors="surrogateescape"))
            digest.update(sheet.path.read_bytes())
            self._photos[sheet.path] = digest.hexdigest()
        text = f"{self._photos[sheet.path]}:{sheet.kind}:{sheet.strengths}"
        return self._folder / f"{text_hash(text)[:24]}.npy"
