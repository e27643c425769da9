"""The network that estimates the causes of low quality, for all models, in ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from qfm_iqm.arrays import Doubles
from qfm_iqm.causes.severity import CAUSES, NONE, Causes, worst_cause
from qfm_iqm.errors import ModelError
from qfm_iqm.image.views import Views

NETWORK_FILE, FACTS_FILE = "causes.onnx", "causes.json"


class CauseNetwork:
    """A loaded network; thread-safe.

    It computes one photo at a time on one thread, so that a photo's severities are bit-identical
    whatever else is scored.

    Args:
        folder: folder with the network and its facts.

    Attributes:
        least: least severity at which each of `CAUSES` is named.
        second: the same for the second cause of a photo that has one already.

    Raises:
        ModelError: a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime  # imported here: scores may come from another runtime

        self.folder = folder
        try:
            facts = json.loads((folder / FACTS_FILE).read_text("utf-8"))
            content = (folder / NETWORK_FILE).read_bytes()
            self.least, self.second = (
                tuple(float(facts[limits][cause]) for cause in CAUSES)
                for limits in ("least", "second")
            )
            expected = facts["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"The network of causes in {folder} cannot be read: {error}"
            ) from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise ModelError(f"{folder / NETWORK_FILE} is damaged: its SHA-256 differs.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, views: Views) -> Doubles:
        """The severities (6,) of a photo, in points, in the order of `CAUSES`."""
        given = {"tiles": views.tiles[None], "whole": views.whole[None]}
        (severities_16,) = self._session.run(["severities"], given)
        return np.maximum(np.asarray(severities_16[0], np.float64), 0)

    def __reduce__(self) -> tuple[Callable[[Path], CauseNetwork], tuple[Path]]:
        """Pickles the folder, because the session cannot be pickled."""
        return load_causes, (self.folder,)

    def causes(self, severities_6: Doubles) -> Causes:
        """The causes of severities, rounded to tenths of a point for display."""
        rounded = [round(value, 1) for value in severities_6.tolist()]
        main = worst_cause(rounded, self.least)
        second = NONE if main == NONE else worst_cause(rounded, self.second, main)
        return Causes(main, second, dict(zip(CAUSES, rounded, strict=True)))


@cache
def load_causes(folder: Path | None = None) -> CauseNetwork:
    """The network of the package or of a folder; loaded once per process.

    Raises:
        ModelError: a file is missing or damaged.
    """
    return CauseNetwork(folder or packaged())


def packaged() -> Path:
    """The folder of the network in the package."""
    return Path(str(resources.files("qfm_iqm") / "pretrained" / "causes"))
