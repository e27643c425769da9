"""An exported model is a folder too: the card, the network in another format, and what it is.

card.json, runtime.json, model.onnx            for ONNX Runtime
card.json, runtime.json, model.xml, model.bin  for OpenVINO
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from qfm_iqm.errors import ModelError
from qfm_iqm.scoring.runtimes.base import Precision

INFO_FILE = "runtime.json"
INFO_FORMAT = 1
FILES = {"onnx": ("model.onnx",), "openvino": ("model.xml", "model.bin")}


class ExportInfo(BaseModel):
    """What an exported network is, and how far its scores lie from torch's.

    Attributes:
        format: version of this file's layout.
        runtime: that it is for.
        precision: in which it computes.
        sha256: of each of its files.
        compared: crops that were scored by both when it was exported.
        max_difference: the largest difference of a crop's scores, in standard deviations of the
            labels.
        calibrated: photos whose crops set the ranges of an int8 network.
        srcc_change: from torch to the export, on rated photos; None where none were given.
        version: of qfm-iqm that wrote it.
    """

    model_config = ConfigDict(extra="forbid")

    format: int = INFO_FORMAT
    runtime: Literal["onnx", "openvino"]
    precision: Precision
    sha256: dict[str, str]
    compared: int
    max_difference: float
    calibrated: int = 0
    srcc_change: float | None = None
    version: str


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_exported(folder: Path) -> bool:
    """Whether a model folder holds an exported network."""
    return (folder / INFO_FILE).is_file()


def read_info(folder: Path) -> ExportInfo:
    """Reads what an exported network is, and checks its files.

    Raises:
        ModelError: it cannot be read, or a file is missing or not the one that was written.
    """
    path = folder / INFO_FILE
    try:
        info = ExportInfo.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} does not describe an exported model: {reason}.") from None
    if info.format > INFO_FORMAT or set(info.sha256) != set(FILES[info.runtime]):
        raise ModelError(f"{path} is of another version of qfm-iqm: export the model again.")
    for name, expected in info.sha256.items():
        if not (folder / name).is_file():
            raise ModelError(f"The exported model {folder} lacks its {name}.")
        if file_hash(folder / name) != expected:
            raise ModelError(
                f"{folder / name} is not the file that was exported: it is damaged or was "
                "exchanged."
            )
    return info
