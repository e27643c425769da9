"""Converts a torch network to an ONNX or OpenVINO file, in fp32 or int8.

int8 ranges are calibrated on crops of real photos (static quantization). Only the encoder is
quantized: the panel decoder is a small part of the work and comes last. fp32 weights are stored in
16 bits where that is exact.

nncf quantizes all networks except convolutional ones for ONNX Runtime. ONNX Runtime computes half
of nncf's convolutions in floats (because of per-channel ranges before depthwise convolutions and
mixed signed and unsigned ranges), but all convolutions of its own tool in int8. That tool does not
handle attention well.

Shapes: B crops, S crop size.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfm_iqm.arrays import Floats
from qfm_iqm.model.frozen_norm import plain_convolutions
from qfm_iqm.model.locate import WEIGHTS_FILE
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.runtimes.onnx_runtime import INPUT, OUTPUT, SHARED
from qfm_iqm.telemetry import InCI

_OPSET = 18
_FLOAT = 1  # ONNX's type code for 32-bit floats
_SMALL = 64  # number of values below which weights stay in 32 bits
_INEXACT = "encoder"  # the module that is quantized to int8


def write_onnx(
    model: QualityModel,
    file: Path,
    calibration: Sequence[Tensor] | None,
    shared: Mapping[str, Tensor] | None = None,
) -> tuple[str, ...]:
    """Writes a model's network, from crops to scores, as ONNX.

    Args:
        model: the model.
        file: file to write.
        calibration: crops of photos (3, S, S) in [0, 1] for int8; None for fp32.
        shared: the weights in the model's file. An fp32 network then does not contain them, and
            `OnnxRuntime` takes them from that file. None writes a self-contained network.

    Returns:
        Names of the shared weights.
    """
    size, longest = model.card.preprocessing.crop, model.card.preprocessing.longest
    dynamic: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=65536)}
    if longest > size:
        dynamic |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with _quiet():
        torch.onnx.export(
            plain_convolutions(model.network),
            (torch.rand(2, 3, size, min(size + 5, longest)),),
            str(file),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(dynamic,),
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    import onnx

    network = onnx.load(file)
    exact = [node.name for node in network.graph.node if _is_exact(node)]
    found: tuple[str, ...] = ()
    if calibration is None:
        _compact(network, model.network.state_dict())
        found = _share(network, shared or {})
    elif _is_transformer(model):
        network = _quantized(
            network,
            calibration,
            lambda crop: {INPUT: crop.numpy()},
            {"names": exact},
            transformer=True,
        )
    else:
        # The first convolution has only three channels, and is faster in fp32.
        first = next(node.name for node in network.graph.node if node.op_type == "Conv")
        _quantize_convolutions(file, calibration, [*exact, first])
        return found
    onnx.save(network, file)
    return found


def _share(network: Any, shared: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Makes a network take its 16-bit weights from the model's file; returns their names.

    A shared weight has its name in the model with the prefix `SHARED`. Some weights are transposed
    in the network; the runtime does that once, at loading.
    """
    import onnx

    known: dict[tuple[bytes, tuple[int, ...]], tuple[str, bool]] = {}
    for name, weight in shared.items():
        if weight.dtype == torch.float16:
            values = weight.numpy()
            known[values.T.tobytes(), values.T.shape] = name, True
            known[values.tobytes(), values.shape] = name, False
    graph, names = network.graph, []
    for held in list(graph.initializer):
        values = onnx.numpy_helper.to_array(held)
        name, transposed = known.get((values.tobytes(), values.shape), ("", False))
        if values.dtype != np.float16 or not name:
            continue
        own, output = f"{SHARED}{name}", held.name
        if own in names:  # the same weight, already shared in another form
            continue
        graph.initializer.remove(held)
        shape = values.shape[::-1] if transposed else values.shape
        outside = onnx.TensorProto(
            name=own,
            data_type=onnx.TensorProto.FLOAT16,
            dims=shape,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        outside.external_data.add(key="location", value=WEIGHTS_FILE)
        graph.initializer.append(outside)
        step = "Transpose" if transposed else "Identity"
        graph.node.insert(0, onnx.helper.make_node(step, [own], [output]))
        names.append(own)
    return tuple(names)


def _quantize_convolutions(file: Path, calibration: Sequence[Tensor], exact: list[str]) -> None:
    """Quantizes an ONNX file's convolutions and activations between them with ONNX Runtime."""
    from onnxruntime import quantization

    class Crops(quantization.CalibrationDataReader):  # type: ignore[misc]
        coming = iter(calibration)

        def get_next(self) -> dict[str, Floats] | None:
            crop_CSS = next(self.coming, None)
            return None if crop_CSS is None else {INPUT: crop_CSS[None].numpy()}

    with _quiet():
        quantization.quantize_static(
            file,
            file,
            Crops(),
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv", "Clip", "Relu", "Add"],
            nodes_to_exclude=exact,
        )


def _compact(network: Any, state: dict[str, Tensor]) -> None:
    """Stores weights of an ONNX network in 16 bits where that is lossless; drops export metadata.

    This holds for weights that were saved in half precision. Convolutions that the exporter has
    multiplied by their normalization are stored as the original weight and a factor per channel,
    which the runtime multiplies once, at loading. It computes in fp32.
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


def _channel_factor(scaled_OIHW: Floats, weight_OIHW: Floats) -> Floats | None:
    """The per-channel factor (O, 1, 1, 1) between two weights; None if there is none."""
    flat, scaled = (a.reshape(len(a), -1) for a in (weight_OIHW, scaled_OIHW))
    largest = np.abs(flat).argmax(1)
    rows = np.arange(len(flat))
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = (scaled[rows, largest] / flat[rows, largest])[:, None, None, None]
    close = np.allclose(weight_OIHW * factor, scaled_OIHW, rtol=1e-5, atol=1e-8)
    return factor if close else None


def write_openvino(model: QualityModel, file: Path, calibration: Sequence[Tensor] | None) -> None:
    """Writes a model's network for OpenVINO; see `write_onnx`."""
    size = model.card.preprocessing.crop
    sides = [size, size] if model.card.preprocessing.longest == size else [-1, -1]
    with _quiet(), torch.no_grad():
        import openvino

        shape = openvino.PartialShape([-1, 3, *sides])
        network = openvino.convert_model(
            plain_convolutions(model.network),
            input=[shape],
            example_input=torch.rand(2, 3, size, size),
        )
    if calibration is not None:
        network = _quantized(
            network,
            calibration,
            lambda crop: crop.numpy(),
            {"patterns": [f"^(?!.*{_INEXACT}).*$"]},
            transformer=_is_transformer(model),
        )
    openvino.save_model(network, file, compress_to_fp16=False)


def _is_transformer(model: QualityModel) -> bool:
    return hasattr(model.network.encoder.backbone, "patch_embed")


def _is_exact(node: Any) -> bool:
    """Whether an ONNX node from torch's exporter belongs to the part that stays in fp32."""
    scopes = [item.value for item in node.metadata_props if item.key.endswith("name_scopes")]
    return not any(_INEXACT in scope for scope in scopes)


def _quantized(
    network: Any,
    calibration: Sequence[Tensor],
    feed: Callable[[Tensor], Any],
    exact: dict[str, Any],
    *,
    transformer: bool,
) -> Any:
    """Quantizes a network of either format to int8, except for the exact parts."""
    with _quiet():
        import nncf

        return nncf.quantize(
            network,
            nncf.Dataset([crop_CSS[None] for crop_CSS in calibration], feed),
            preset=nncf.QuantizationPreset.MIXED,  # asymmetric ranges for activations
            subset_size=len(calibration),
            fast_bias_correction=True,
            # 7-bit weights, because without VNNI sums of 8-bit products saturate.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE
            ),
            # nncf treats attention specially only with this model type.
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            ignored_scope=nncf.IgnoredScope(**exact, validate=False),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporters' warnings, logs and telemetry."""
    with warnings.catch_warnings(), InCI():
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
