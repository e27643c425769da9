"""The interface of a runtime, which computes scores from crops.

It does not need torch, so that an exported model can be scored without it.

Shapes: B crops, S crop size (S x S, or longer sides: `Preprocessing.max_aspect`).
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Doubles, Floats
from qfm_iqm.errors import QFMError
from qfm_iqm.image.memory_budget import usable_cores
from qfm_iqm.model.card import ModelCard

if TYPE_CHECKING:
    from torch import Tensor

Crop: TypeAlias = "npt.NDArray[Any] | Tensor"
Name = Literal["torch", "onnx", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]

TOLERANCE: dict[str, float] = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.5}
"""Largest difference of a crop's score from torch's in fp32, in standard deviations of the labels.

For the same runtime with another batch it is 1e-5 in fp32.
"""


class Runtime(ABC):
    """A loaded model.

    Args:
        card: the model's card.
        precision: precision of the computation.
        weights: SHA-256 of the weights; empty if they were never saved.

    Attributes:
        name: name of the runtime in rows.
        batch: recommended number of crops per batch.
    """

    name: ClassVar[Name]
    batch: int = 32

    def __init__(self, card: ModelCard, precision: Precision, weights: str) -> None:
        self.card = card
        self.precision = precision
        self.weights = weights

    def __deepcopy__(self, _memo: object) -> Self:
        """Returns itself: scoring does not change a runtime, so copies can share it."""
        return self

    @abstractmethod
    def run(self, crops: Sequence[Crop]) -> Doubles:
        """Scores crops.

        Args:
            crops: B crops (3, S, S), uint8 or float32 in [0, 1]; arrays, or tensors on the CPU.
                Their shapes may differ.

        Returns:
            Scores (B,) in label units.
        """


_PART = 2 * 224**2  # pixels per part


class PartedRuntime(Runtime):
    """A CPU runtime that computes a batch in small parts, one per thread.

    Threads that share a layer wait for each other at its end, about a hundred times per batch, and
    longer if the cores are busy. Threads with their own parts wait only once, their data stay in a
    core's cache, and they need less memory. The size of parts does not depend on the number of
    threads, because rounding depends on it.

    Attributes:
        part: number of crops in a part.
    """

    _file: Path  # the network in its exported folder

    def __init__(self, card: ModelCard, precision: Precision, weights: str) -> None:
        super().__init__(card, precision, weights)
        self.part = max(1, _PART // card.preprocessing.crop**2)
        self._start()

    def _start(self) -> None:
        """Creates this process's session of the library and its threads."""
        self.open()
        self._pool = ThreadPoolExecutor(threads(), thread_name_prefix="network")
        self._process = os.getpid()

    @abstractmethod
    def open(self) -> None:
        """Loads the network; called again in a process that was forked from this one.

        Raises:
            QFMError: the library cannot be used in a forked process.
        """

    def run(self, crops: Sequence[Crop]) -> Doubles:
        """See `Runtime.run`."""
        if os.getpid() != self._process:  # a fork has none of its parent's threads
            self._start()
        parts = list(of_one_shape(crops, self.part))
        scores = self._pool.map(lambda part: self.run_part(stacked(part)), parts)
        return np.concatenate([np.asarray(scores_B, np.float64) for scores_B in scores])

    def __reduce__(self) -> tuple[Callable[..., Runtime], tuple[Path, ModelCard]]:
        """Pickles the folder and the card, because threads and sessions cannot be pickled."""
        # Imported here because `export_folder` imports this module.
        from qfm_iqm.scoring.runtimes.export_folder import load_exported

        return load_exported, (self._file.parent, self.card)

    @abstractmethod
    def run_part(self, crops_BCSS: Floats) -> Floats:
        """Scores (B,) of a few crops (B, 3, S, S), on the calling thread."""


def of_one_shape(crops: Sequence[Crop], most: int) -> Iterator[Sequence[Crop]]:
    """Yields crops in order, in groups of equal shape with at most `most` crops."""
    for _, group in groupby(crops, key=lambda crop: tuple(crop.shape)):
        alike = list(group)
        for start in range(0, len(alike), most):
            yield alike[start : start + most]


def forked(library: str) -> QFMError:
    """The error for a library that cannot be used in a forked process."""
    return QFMError(
        f"{library} cannot compute in a process that was forked after the model was loaded: start "
        "that process with spawn, and load the model there."
    )


def fill(batch_BCSS: Floats, crops: Sequence[Crop]) -> None:
    """Writes crops, uint8 or floats in [0, 1], into a batch of floats."""
    for place, crop in zip(batch_BCSS, map(np.asarray, crops), strict=True):
        if crop.dtype == np.uint8:
            np.divide(crop, np.float32(255), out=place)
        else:
            place[:] = crop


def stacked(crops: Sequence[Crop]) -> Floats:
    """Stacks crops to a batch of floats."""
    batch_BCSS = np.empty((len(crops), *crops[0].shape), np.float32)
    fill(batch_BCSS, crops)
    return batch_BCSS


def threads() -> int:
    """Number of computing threads: OMP_NUM_THREADS, or one per usable core."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    return int(named) if named.isdecimal() and int(named) else usable_cores()
