"""Exports a torch model to a folder for ONNX Runtime or OpenVINO, in fp32 or int8.

Every export is compared with torch and refused if its scores differ by more than the precision's
tolerance. `convert` writes the network's file.

Shapes: B crops, S crop size.
"""

import stat
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import qfm_iqm
from qfm_iqm.errors import ModelError
from qfm_iqm.files import check_folder, sha256_of, writing
from qfm_iqm.image.load import ReadingPolicy, read
from qfm_iqm.image.preprocess import covering_crops
from qfm_iqm.image.resize import as_floats
from qfm_iqm.model.locate import CARD_FILE, WEIGHTS_FILE
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.weights import read_safetensors
from qfm_iqm.scoring.runtimes.base import TOLERANCE, Precision, Runtime
from qfm_iqm.scoring.runtimes.convert import write_onnx, write_openvino
from qfm_iqm.scoring.runtimes.export_folder import (
    FILES,
    INFO_FILE,
    ExportInfo,
    load_exported,
)
from qfm_iqm.scoring.runtimes.torch_runtime import TorchRuntime

Target = Literal["onnx", "openvino"]
Rated = Callable[[QualityModel | Runtime], float]

CALIBRATION_CROPS = 512
COMPARED_CROPS = 64
SRCC_TOLERANCE = 0.003  # largest loss of SRCC by an export


def export(
    model: QualityModel,
    folder: Path,
    target: Target,
    *,
    precision: Precision = "fp32",
    photos: Sequence[str] = (),
    rated: Rated | None = None,
    weights: Path | None = None,
) -> ExportInfo:
    """Exports a model.

    Args:
        model: the model.
        folder: folder to create; an existing one may only hold an earlier export.
        target: the runtime.
        precision: "fp32" or "int8".
        photos: real photos; int8 needs a few hundred. Exports are compared with torch on crops of
            them, or, for fp32 without photos, on noise of several grain sizes.
        rated: returns the SRCC of a model on rated photos; None skips this check.
        weights: the model's weights file, in the parent of `folder`, from which an ONNX network in
            fp32 takes its weights. None writes a self-contained export.

    Returns:
        The description of the export, with the largest difference found.

    Raises:
        ModelError: int8 has no photos, no photo can be read, scores differ or SRCC drops by more
            than the tolerance, or the parent folder does not exist.
        TableError: the folder holds something else, or cannot be written.
    """
    if precision not in ("fp32", "int8"):
        raise ModelError(f"A model is exported in fp32 or int8, not in {precision}.")
    if precision == "int8" and not photos:
        raise ModelError("int8 is calibrated on real photos: give a few hundred with --photos.")
    _check_folder(folder)
    folder = folder.resolve()  # if it is a link, replace its target
    model = model.cpu().eval()
    crops = _photo_crops(model, photos) if photos else _noise_crops(model)
    with writing(folder):
        beside = tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.")
    with beside as place:
        made = Path(place) / folder.name
        made.mkdir()
        if weights is not None:
            (Path(place) / WEIGHTS_FILE).symlink_to(weights.resolve())  # in the parent, as later
        calibration = crops.pixels[:CALIBRATION_CROPS] if precision == "int8" else None
        shared: tuple[str, ...] = ()
        if target == "openvino":
            write_openvino(model, made / FILES["openvino"][0], calibration)
        else:
            state = None if weights is None else read_safetensors(weights)
            shared = write_onnx(model, made / FILES["onnx"][0], calibration, state)
        files = {name: sha256_of(made / name) for name in FILES[target]}
        info = ExportInfo(
            runtime=target,
            precision=precision,
            sha256=files,
            compared=0,
            max_difference=0,
            calibrated=crops.photos if precision == "int8" else 0,
            shared=shared,
            version=qfm_iqm.__version__,
        )
        (made / CARD_FILE).write_text(model.card.model_dump_json(indent=2) + "\n")
        (made / INFO_FILE).write_text(info.model_dump_json(indent=2) + "\n")
        exported = load_exported(made)
        compared = crops.pixels[-COMPARED_CROPS:]
        info.compared = len(compared)
        info.max_difference = max_difference(model, exported, compared)
        info.srcc_change = None if rated is None else rated(exported) - rated(model)
        _check_parity(model.card.name, info)
        del exported  # its file will be moved
        (made / INFO_FILE).write_text(info.model_dump_json(indent=2) + "\n")
        _replace_folder(made, folder)
    return info


@torch.inference_mode()
def max_difference(model: QualityModel, runtime: Runtime, crops: Sequence[Tensor]) -> float:
    """The largest difference of crop scores from torch's, in standard deviations of the labels."""
    expected_B = TorchRuntime(model, device="cpu").run(crops)
    # Two batches of different sizes detect an export with a fixed batch size.
    found_B = np.concatenate([runtime.run(part) for part in (crops[:5], crops[5:]) if part])
    difference_B = (found_B - expected_B) / model.network.scale.std.item()
    return float(np.abs(difference_B).max())


def _check_parity(name: str, info: ExportInfo) -> None:
    """Refuses an export whose results differ from its model's."""
    what = f"The scores of {name} in {info.precision} by {info.runtime}"
    tolerance = TOLERANCE[info.precision]
    if not info.max_difference <= tolerance:  # this form refuses NaN too
        raise ModelError(
            f"{what} differ from torch's by up to {info.max_difference:.2g} standard deviations of "
            f"the labels, more than the tolerance of {tolerance:g}: nothing was written."
        )
    if info.srcc_change is not None and info.srcc_change < -SRCC_TOLERANCE:
        raise ModelError(
            f"{what} lose {-info.srcc_change:.4f} of SRCC, more than the tolerance of "
            f"{SRCC_TOLERANCE:g}: nothing was written."
        )


# ---- crops ----


@dataclass(frozen=True)
class _Crops:
    pixels: list[Tensor]
    photos: int


def _photo_crops(model: QualityModel, photos: Sequence[str]) -> _Crops:
    """Crops spread evenly over the photos; the last ones are not used for calibration."""
    wanted = CALIBRATION_CROPS + COMPARED_CROPS
    step = max(1, len(photos) // wanted)
    each = max(1, -(-wanted // len(photos)))
    policy = ReadingPolicy(model.card.preprocessing)
    draw = torch.Generator().manual_seed(0)
    crops: list[Tensor] = []
    used = 0
    for path in photos[::step]:
        pixels = read(path, policy).pixels
        if pixels is None:
            continue
        used += 1
        grid = list(covering_crops(pixels, model.card.preprocessing))
        for place in torch.randperm(len(grid), generator=draw)[:each].tolist():
            crops.append(torch.from_numpy(np.ascontiguousarray(as_floats(grid[place]))))
        if len(crops) >= wanted:
            break
    if not crops:
        raise ModelError("None of the given photos can be read.")
    return _Crops(crops, used)


def _noise_crops(model: QualityModel) -> _Crops:
    """Noise crops of several grain sizes."""
    size, longest = model.card.preprocessing.crop, model.card.preprocessing.longest
    draw = torch.Generator().manual_seed(0)
    crops = []
    for number in range(COMPARED_CROPS):
        grain = max(2, size >> number % 6)
        noise = torch.rand(1, 3, grain, grain, generator=draw)
        shape = size, size + (longest - size) * (number % 4) // 3
        crops.append(functional.interpolate(noise, shape, mode="bicubic").clamp(0, 1)[0])
    return _Crops(crops, 0)


# ---- the folder ----


def _check_folder(folder: Path) -> None:
    if not folder.parent.is_dir():
        raise ModelError(f"'{folder}' cannot be written: there is no folder {folder.parent}.")
    known = (CARD_FILE, INFO_FILE, *(name for names in FILES.values() for name in names))
    check_folder(folder, known, "an exported model", whole=True)


def _replace_folder(made: Path, folder: Path) -> None:
    if folder.exists():
        made.chmod(stat.S_IMODE(folder.stat().st_mode))
        folder.rename(made.parent / "earlier")
    made.rename(folder)
