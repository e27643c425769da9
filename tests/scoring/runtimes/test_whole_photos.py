"""A network for whole photos in all runtimes: any shape, weights stored once, also int8."""

import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from qfm_iqm.errors import ModelError, QFMError
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.card import ModelCard
from qfm_iqm.model.folder import load_model, save_model
from qfm_iqm.model.locate import find_model
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.scoring.runtimes import onnx_runtime
from qfm_iqm.scoring.runtimes.base import TOLERANCE
from qfm_iqm.scoring.runtimes.export import export
from qfm_iqm.scoring.runtimes.load import load_runtime
from qfm_iqm.scoring.scorer import Scorer

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

SHAPES = [(64, 64), (64, 90), (130, 64), (90, 200), (40, 50), (300, 70), (64, 64)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Photos of many shapes: one crop, several, and less than one."""
    folder = tmp_path_factory.mktemp("shapes")
    draw = np.random.default_rng(0)
    for number, (height, width) in enumerate(SHAPES):
        cells = Image.fromarray(draw.integers(0, 256, (5, 7, 3), np.uint8))
        cells.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return sorted(str(path) for path in folder.iterdir())


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    """The model with its exports: fp32 of its weights, int8 of its own."""
    torch.manual_seed(0)
    network = QualityNetwork("efficientnet_lite0_stages", crop=64, width=48, heads=3)
    shown = Preprocessing(crop=64, max_aspect=2, shorter_side=64, resample="bilinear")
    card = ModelCard(name="whole", network=network.config, preprocessing=shown)
    place = tmp_path_factory.mktemp("whole") / "model"
    save_model(QualityModel(network, card), place, dtype=torch.float16)
    model = load_model(place)
    weights = place / "model.safetensors"
    export(model, place / "onnx", "onnx", photos=files, weights=weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TOLERANCE, "int8", 3.0)  # for a random network
        int8 = place / "onnx-int8"
        export(model, int8, "onnx", precision="int8", photos=files, weights=weights)
    return place


def test_every_shape_scores_as_in_torch(folder, files):
    one_by_one = [load_model(folder).score(file) for file in files]
    assert [score.n_crops for score in one_by_one] == [1, 1, 2, 2, 1, 3, 1]
    for runtime in ("torch", "onnx"):
        rows = Scorer(load_runtime(folder, runtime), batch_size=4).score_paths(files)
        for row, score in zip(rows, one_by_one, strict=True):
            assert row.score == pytest.approx(score.value, abs=1e-4)
            assert row.crop_std == pytest.approx(score.crop_std, abs=1e-4)


@pytest.mark.parametrize("vnni", [True, False])
def test_sums_of_int8_do_not_saturate(photo_folder, monkeypatch, vnni):
    """The same network step by step, whose int8 values are multiplied and added as floats."""
    import onnxruntime

    if vnni and not onnx_runtime.has_vnni():
        pytest.skip("this CPU has no VNNI")
    monkeypatch.setattr(onnx_runtime, "has_vnni", lambda: vnni)
    runtime = load_runtime("default", precision="int8")
    size = runtime.card.preprocessing.crop
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    file = find_model("default", exports=True) / "onnx-int8" / "model.onnx"
    exact = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    for path in sorted(photo_folder.iterdir())[:4]:
        photo = Image.open(path).convert("RGB").resize((size, size))
        crop_CSS = torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 255
        given = {exact.get_inputs()[0].name: crop_CSS[None].numpy()}
        assert runtime.run([crop_CSS]) == pytest.approx(exact.run(None, given)[0], abs=0.004)


def test_a_network_is_a_graph_beside_its_weights(folder):
    network = onnx.load(folder / "onnx" / "model.onnx", load_external_data=False)
    assert (folder / "onnx" / "model.onnx").stat().st_size < 200_000
    outside = [t for t in network.graph.initializer if t.data_location == t.EXTERNAL]
    held = sum(math.prod(tensor.dims) for tensor in outside)
    assert held > 0.95 * sum(p.numel() for p in load_model(folder).network.parameters())
    assert {entry.value for t in outside for entry in t.external_data} == {"model.safetensors"}
    assert load_runtime(folder).name == ("torch" if torch.cuda.is_available() else "onnx")


def test_other_weights_beside_it_are_refused(folder, tmp_path):
    moved = tmp_path / "model"
    shutil.copytree(folder, moved)
    content = bytearray((moved / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (moved / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"not the file that .* belongs to"):
        load_runtime(moved, "onnx")
    (moved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="is missing"):
        load_runtime(moved, "onnx")


def test_int8_comes_with_the_model(folder, files, tiny_model_folder):
    runtime = load_runtime(folder, precision="int8")
    assert (runtime.name, runtime.precision) == ("onnx", "int8")
    network = onnx.load(folder / "onnx-int8" / "model.onnx")
    tensors = {tensor.name: tensor for tensor in network.graph.initializer}
    producers = {output: node for node in network.graph.node for output in node.output}
    first, *others = (node for node in network.graph.node if node.op_type == "Conv")
    assert tensors[first.input[1]].data_type == onnx.TensorProto.FLOAT
    for node in others:
        assert tensors[producers[node.input[1]].input[0]].data_type == onnx.TensorProto.INT8
    rows = list(Scorer(runtime).score_paths(files))
    assert {row.precision for row in rows} == {"int8"}
    assert {row.weights for row in rows} != {load_model(folder).card.weights_sha256}
    with pytest.raises(QFMError, match="comes without an int8 network"):
        load_runtime(tiny_model_folder, precision="int8")
    with pytest.raises(QFMError, match="Only torch can choose a device"):
        load_runtime(folder, precision="int8", device="cpu")
    with pytest.raises(QFMError, match="comes without an int8 network"):
        load_runtime(folder, "openvino", precision="int8")
