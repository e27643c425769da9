"""A quality model in torch -> a folder for ONNX Runtime or OpenVINO, in fp32 or int8.

What is written has been compared with torch: an export whose scores differ by more than the
precision's tolerance is refused. An int8 network's ranges are set by crops of real photos (static
quantisation); the panel decoder stays in fp32, as it is a small part of the work and the last.

Shapes: B crops, S crop size.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from qfm_iqm.errors import ModelError
from qfm_iqm.image.cropping import covering_crops
from qfm_iqm.image.fitting import as_floats
from qfm_iqm.network.finding import CARD_FILE
from qfm_iqm.network.model import QualityModel
from qfm_iqm.scoring.reading import ReadingPolicy, read
from qfm_iqm.scoring.runtimes.base import TOLERANCE, Precision, Runtime
from qfm_iqm.scoring.runtimes.folder import FILES, INFO_FILE, ExportInfo, file_hash
from qfm_iqm.scoring.runtimes.loading import load_exported
from qfm_iqm.scoring.runtimes.onnx_runtime import INPUT, OUTPUT

Target = Literal["onnx", "openvino"]
Rated = Callable[[QualityModel | Runtime], float]

CALIBRATION_CROPS = 512
COMPARED_CROPS = 64
SRCC_TOLERANCE = 0.003
_OPSET = 18
_FLOAT = 1  # ONNX's number of 32-bit floats
_SMALL = 64  # values


def export(
    model: QualityModel,
    folder: Path,
    target: Target,
    *,
    precision: Precision = "fp32",
    photos: Sequence[str] = (),
    rated: Rated | None = None,
) -> ExportInfo:
    """Writes an exported model.

    Args:
        model: what to export.
        folder: made; one that is there must not hold anything but an earlier export.
        target: the runtime.
        precision: "fp32" or "int8".
        photos: real photos: int8 needs some hundred. All are compared on crops of these, or, for
            fp32 without photos, on noise of several grains.
        rated: gives the SRCC of a model on rated photos; None leaves that unchecked.

    Returns:
        What was written, with the largest difference found.

    Raises:
        ModelError: int8 without photos, no photo that can be read, scores that differ or an SRCC
            that moves by more than is tolerated, or a folder that is something else.
    """
    if precision not in ("fp32", "int8"):
        raise ModelError(f"A model is exported in fp32 or int8, not in {precision}.")
    if precision == "int8" and not photos:
        raise ModelError("int8 is calibrated on real photos: give a folder of some hundred.")
    _check_folder(folder)
    model = model.cpu().eval()
    crops = _photo_crops(model, photos) if photos else _noise_crops(model)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as place:
        made = Path(place) / folder.name
        made.mkdir()
        calibration = crops.pixels_BCSS[:CALIBRATION_CROPS] if precision == "int8" else None
        if target == "openvino":
            _write_openvino(model, made / FILES["openvino"][0], calibration)
        else:
            _write_onnx(model, made / FILES["onnx"][0], calibration)
        files = {name: file_hash(made / name) for name in FILES[target]}
        info = ExportInfo(
            runtime=target,
            precision=precision,
            sha256=files,
            compared=0,
            max_difference=0,
            calibrated=crops.photos if precision == "int8" else 0,
            version=metadata.version("qfm-iqm"),
        )
        (made / CARD_FILE).write_text(model.card.model_dump_json(indent=2) + "\n")
        (made / INFO_FILE).write_text(info.model_dump_json(indent=2) + "\n")
        exported = load_exported(made)
        info.compared = len(crops.pixels_BCSS[-COMPARED_CROPS:])
        info.max_difference = max_difference(model, exported, crops.pixels_BCSS[-COMPARED_CROPS:])
        info.srcc_change = None if rated is None else rated(exported) - rated(model)
        _check_parity(model.card.name, info)
        del exported  # its file moves
        (made / INFO_FILE).write_text(info.model_dump_json(indent=2) + "\n")
        _replace_folder(made, folder)
    return info


@torch.inference_mode()
def max_difference(model: QualityModel, runtime: Runtime, crops_BCSS: Tensor) -> float:
    """The largest difference of crops' scores from torch's, in standard deviations of labels."""
    expected_B = model.network(crops_BCSS)
    # In two batches of different sizes: an export that holds the size of its example is noticed.
    found_B = np.concatenate([runtime.run(list(part)) for part in (crops_BCSS[:5], crops_BCSS[5:])])
    difference_B = (found_B - expected_B.double().numpy()) / model.network.scale.std.item()
    return float(np.abs(difference_B).max())


def _check_parity(name: str, info: ExportInfo) -> None:
    """Refuses an export that says something else than its model."""
    what = f"The scores of {name} in {info.precision} by {info.runtime}"
    tolerance = TOLERANCE[info.precision]
    if not info.max_difference <= tolerance:  # so written, NaN is refused too
        raise ModelError(
            f"{what} differ from torch's by up to {info.max_difference:.2g} standard deviations of "
            f"the labels, more than the {tolerance:g} that are tolerated: nothing was written."
        )
    if info.srcc_change is not None and abs(info.srcc_change) > SRCC_TOLERANCE:
        raise ModelError(
            f"{what} move SRCC by {info.srcc_change:+.4f}, more than the {SRCC_TOLERANCE:g} that "
            "are tolerated: nothing was written."
        )


# ---- crops ----


@dataclass(frozen=True)
class _Crops:
    pixels_BCSS: Tensor
    photos: int


def _photo_crops(model: QualityModel, photos: Sequence[str]) -> _Crops:
    """Crops spread evenly over the photos: the last ones are not used to calibrate."""
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
        grid = list(covering_crops(pixels, model.card.preprocessing.crop))
        for place in torch.randperm(len(grid), generator=draw)[:each].tolist():
            crops.append(torch.from_numpy(np.ascontiguousarray(as_floats(grid[place]))))
        if len(crops) >= wanted:
            break
    if not crops:
        raise ModelError("None of the photos given can be read.")
    return _Crops(torch.stack(crops), used)


def _noise_crops(model: QualityModel) -> _Crops:
    """Noise of several grains and contrasts, between flat and full."""
    size = model.card.preprocessing.crop
    draw = torch.Generator().manual_seed(0)
    crops = []
    for number in range(COMPARED_CROPS):
        grain = max(2, size >> number % 6)
        noise = torch.rand(1, 3, grain, grain, generator=draw)
        crops.append(functional.interpolate(noise, (size, size), mode="bicubic").clamp(0, 1)[0])
    return _Crops(torch.stack(crops), 0)


# ---- formats ----


def _write_onnx(model: QualityModel, file: Path, calibration_BCSS: Tensor | None) -> None:
    size = model.card.preprocessing.crop
    with _quiet():
        torch.onnx.export(
            model.network,
            (torch.rand(2, 3, size, size),),
            str(file),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    import onnx

    network = onnx.load(file)
    if calibration_BCSS is None:
        _compact(network, model.network.state_dict())
    else:
        decoder = [node.name for node in network.graph.node if _is_decoders(node)]
        network = _quantised(
            network,
            calibration_BCSS,
            lambda crop: {INPUT: crop.numpy()},
            {"names": decoder},
            _is_transformer(model),
        )
    onnx.save(network, file)


def _compact(network: Any, state: dict[str, Tensor]) -> None:
    """Has an ONNX file hold in 16 bits what loses nothing by that, and no notes of the exporter.

    Weights that were saved in half precision are kept so, as are the convolutions that the
    exporter has multiplied by their normalisation: as the weight and a factor for each channel.
    The runtime puts both together once, when it loads; it computes in fp32.
    """
    import onnx

    beside: list[Any] = []
    for held in list(network.graph.initializer):
        values = onnx.numpy_helper.to_array(held)
        if values.dtype != np.float32 or values.size < _SMALL:
            continue
        half, factor = values.astype(np.float16), None
        if not np.array_equal(half, values):
            if values.ndim != 4 or held.name not in state:
                continue
            weight = state[held.name].numpy()
            half, factor = weight.astype(np.float16), _channel_factor(values, weight)
            if factor is None or not np.array_equal(half, weight):
                continue
        name = held.name
        network.graph.initializer.remove(held)
        tensors = [onnx.numpy_helper.from_array(half, f"{name}_half")]
        cast = name if factor is None else f"{name}_cast"
        beside.append(onnx.helper.make_node("Cast", [f"{name}_half"], [cast], to=_FLOAT))
        if factor is not None:
            tensors.append(onnx.numpy_helper.from_array(factor, f"{name}_factor"))
            beside.append(onnx.helper.make_node("Mul", [cast, f"{name}_factor"], [name]))
        network.graph.initializer.extend(tensors)
    nodes = [*beside, *network.graph.node]
    for node in nodes:
        node.ClearField("metadata_props")
    del network.graph.node[:]
    network.graph.node.extend(nodes)
    del network.graph.value_info[:]


def _channel_factor(
    scaled_OIHW: npt.NDArray[np.float32], weight_OIHW: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32] | None:
    """The factor (O, 1, 1, 1) between two weights; None if there is none."""
    flat, scaled = (a.reshape(len(a), -1) for a in (weight_OIHW, scaled_OIHW))
    largest = np.abs(flat).argmax(1)
    rows = np.arange(len(flat))
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = (scaled[rows, largest] / flat[rows, largest])[:, None, None, None]
    close = np.allclose(weight_OIHW * factor, scaled_OIHW, rtol=1e-5, atol=1e-8)
    return factor if close else None


def _write_openvino(model: QualityModel, file: Path, calibration_BCSS: Tensor | None) -> None:
    import openvino

    size = model.card.preprocessing.crop
    shape = openvino.PartialShape([-1, 3, size, size])
    with _quiet(), torch.no_grad():
        network = openvino.convert_model(
            model.network, input=[shape], example_input=torch.rand(2, 3, size, size)
        )
    if calibration_BCSS is not None:
        network = _quantised(
            network,
            calibration_BCSS,
            lambda crop: crop.numpy(),
            {"patterns": [".*decoder.*"]},
            _is_transformer(model),
        )
    openvino.save_model(network, file, compress_to_fp16=False)


def _is_transformer(model: QualityModel) -> bool:
    return hasattr(model.network.encoder.backbone, "patch_embed")


def _is_decoders(node: Any) -> bool:
    """Whether torch's exporter wrote an ONNX node for a part of the decoder."""
    scopes = [item.value for item in node.metadata_props if item.key.endswith("name_scopes")]
    return any("decoder" in scope for scope in scopes)


def _quantised(
    network: Any,
    calibration_BCSS: Tensor,
    feed: Callable[[Tensor], Any],
    decoder: dict[str, Any],
    transformer: bool,
) -> Any:
    """A network of either format in int8, but for the decoder."""
    import nncf

    with _quiet():
        return nncf.quantize(
            network,
            nncf.Dataset(list(calibration_BCSS.split(1)), feed),
            preset=nncf.QuantizationPreset.MIXED,  # ranges of activations need not be symmetric
            subset_size=len(calibration_BCSS),
            fast_bias_correction=True,
            # Attention needs care that nncf takes only when told.
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            ignored_scope=nncf.IgnoredScope(**decoder, validate=False),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters speak of what they do: nothing of it concerns the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)


# ---- the folder ----


def _check_folder(folder: Path) -> None:
    if not folder.parent.is_dir():
        raise ModelError(f"'{folder}' cannot be written: there is no folder {folder.parent}.")
    known = {CARD_FILE, INFO_FILE, *(name for names in FILES.values() for name in names)}
    if folder.exists() and (
        not folder.is_dir() or {entry.name for entry in folder.iterdir()} - known
    ):
        raise ModelError(f"'{folder}' is there and is no exported model: give another name.")


def _replace_folder(made: Path, folder: Path) -> None:
    if folder.exists():
        folder.rename(made.parent / "earlier")
    made.rename(folder)
