"""The folder of an exported model: its card, the network, and a description of the export.

card.json, runtime.json, model.onnx            for ONNX Runtime
card.json, runtime.json, model.xml, model.bin  for OpenVINO
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from qfm_iqm.errors import ModelError, first_line
from qfm_iqm.files import sha256_of
from qfm_iqm.model.card import ModelCard, read_card
from qfm_iqm.model.locate import CARD_FILE
from qfm_iqm.scoring.runtimes.base import Precision, Runtime

INFO_FILE = "runtime.json"
INFO_FORMAT = 1
FILES = {"onnx": ("model.onnx",), "openvino": ("model.xml", "model.bin")}


class ExportInfo(BaseModel):
    """The description of an exported network.

    Attributes:
        format: version of this file's layout.
        runtime: runtime that it is for.
        precision: precision of the computation.
        sha256: hash of each file.
        compared: number of crops that were compared with torch at export.
        max_difference: largest difference of a crop's score, in standard deviations of the labels.
        calibrated: number of photos for calibrating an int8 network.
        srcc_change: change of SRCC from torch to the export on rated photos; None if not measured.
        shared: weights that are in the model's file in the parent folder.
        version: version of qfm-iqm that wrote it.
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
    shared: tuple[str, ...] = ()
    version: str


def export_name(runtime: str, precision: str) -> str:
    """The name of an export's folder in its model's folder: "onnx", "onnx-int8", "openvino" ..."""
    return runtime if precision == "fp32" else f"{runtime}-{precision}"


def is_exported(folder: Path) -> bool:
    """Whether a model folder holds an exported network."""
    return (folder / INFO_FILE).is_file()


def read_info(folder: Path) -> ExportInfo:
    """Reads the description of an exported network, and checks its files.

    Raises:
        ModelError: it cannot be read, or a file is missing or was changed.
    """
    path = folder / INFO_FILE
    try:
        info = ExportInfo.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} does not describe an exported model: {reason}.") from None
    if info.format > INFO_FORMAT or set(info.sha256) != set(FILES[info.runtime]):
        raise ModelError(f"{path} is from another version of qfm-iqm: export the model again.")
    for name, expected in info.sha256.items():
        if not (folder / name).is_file():
            raise ModelError(f"The exported model {folder} lacks {name}.")
        if sha256_of(folder / name) != expected:
            raise ModelError(
                f"{folder / name} is not the file that was exported: it is damaged or was replaced."
            )
    return info


def load_exported(folder: Path, card: ModelCard | None = None) -> Runtime:
    """Loads an exported model.

    Args:
        folder: folder of the export.
        card: the model's current card, used instead of the folder's.

    Raises:
        ModelError: the export is damaged.
        ModuleNotFoundError: its runtime is not installed.
    """
    info = read_info(folder)
    card = card or read_card(folder / CARD_FILE)
    file = folder / FILES[info.runtime][0]
    # An int8 network has its own weights; an fp32 network has the model's.
    weights = info.sha256[FILES[info.runtime][-1]]
    weights = weights if info.precision == "int8" else card.weights_sha256
    try:
        if info.runtime == "onnx":
            from qfm_iqm.scoring.runtimes.onnx_runtime import OnnxRuntime

            return OnnxRuntime(card, file, info.precision, weights, info.shared)
        from qfm_iqm.scoring.runtimes.openvino_runtime import OpenvinoRuntime

        return OpenvinoRuntime(card, file, info.precision, weights)
    except (ModuleNotFoundError, ModelError):
        raise
    except Exception as error:  # each runtime has its own exceptions
        raise ModelError(f"{info.runtime} cannot load {file}: {first_line(error)}") from error
