import copy
import json
import math
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import ModelError, QFMError, TableError
from qfm_iqm.evaluation.evaluate import evaluate_model
from qfm_iqm.model.card import read_card
from qfm_iqm.model.folder import load_model, save_model, save_with_card
from qfm_iqm.scoring.runtimes import export as exporting
from qfm_iqm.scoring.runtimes.base import TOLERANCE
from qfm_iqm.scoring.runtimes.export import export
from qfm_iqm.scoring.runtimes.export_folder import load_exported, read_info
from qfm_iqm.scoring.runtimes.load import load_runtime
from qfm_iqm.scoring.scorer import Scorer

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

RANDOM = 3.0  # int8 of a random network may give nearly anything
WAYS = [("onnx", "fp32"), ("openvino", "fp32"), ("onnx", "int8"), ("openvino", "int8")]


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return load_model(tiny_model_folder)


@pytest.fixture(scope="module")
def photos(photo_folder):
    return sorted(str(path) for path in photo_folder.iterdir())


@pytest.fixture(scope="module")
def exported(model, photos, tmp_path_factory):
    """Folders of each way, made when first asked for."""
    place = tmp_path_factory.mktemp("exported")

    def folder(target, precision):
        pytest.importorskip({"onnx": "onnxruntime"}.get(target, target))
        if precision == "int8":
            pytest.importorskip("nncf")
        made = place / f"{target}-{precision}"
        if not made.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(TOLERANCE, "int8", RANDOM)
                export(model, made, target, precision=precision, photos=photos)
        return made

    return folder


@pytest.mark.parametrize(("target", "precision"), WAYS)
def test_scores_are_torchs(model, exported, photos, target, precision):
    runtime = load_exported(exported(target, precision))
    assert (runtime.name, runtime.precision) == (target, precision)
    crops = torch.rand(7, 3, 48, 48)
    with torch.inference_mode():
        expected = model.network(crops)
    tolerance = TOLERANCE["fp32"] if precision == "fp32" else RANDOM
    std = model.network.scale.std.item()
    for batch in (crops[:1], crops[:6], crops):
        difference = np.abs(runtime.run(list(batch)) - expected[: len(batch)].numpy()).max()
        assert difference <= tolerance * std
    rows = list(Scorer(runtime, batch_size=5).score_paths(photos))
    theirs = list(Scorer(model, batch_size=5).score_paths(photos))
    for ours, torchs in zip(rows, theirs, strict=True):
        assert abs(ours.score - torchs.score) <= tolerance * std
        assert (ours.runtime, ours.precision) == (target, precision)
        assert ours.model == torchs.model
        assert (ours.weights == torchs.weights) == (precision == "fp32")
    if precision == "int8":
        assert any(abs(a.score - b.score) > 1e-4 for a, b in zip(rows, theirs, strict=True))


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_a_pickled_runtime_is_loaded_from_its_folder(exported, tmp_path, target):
    folder = tmp_path / "exported"
    shutil.copytree(exported(target, "fp32"), folder)
    runtime = load_exported(folder)
    pickled = pickle.dumps(runtime)
    crops = list(torch.rand(7, 3, 48, 48))
    found = pickle.loads(pickled)
    assert (found.weights, found.card) == (runtime.weights, runtime.card)
    np.testing.assert_array_equal(found.run(crops), runtime.run(crops))
    assert copy.deepcopy(runtime) is runtime
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match="does not describe an exported model"):
        pickle.loads(pickled)


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_batches_and_neighbors_do_not_matter_in_fp32(exported, photos, target):
    runtime = load_exported(exported(target, "fp32"))
    alone = {row.path: row for row in Scorer(runtime, batch_size=1).score_paths(photos)}
    for row in Scorer(runtime, batch_size=7).score_paths(photos[::-1]):
        assert abs(row.score - alone[row.path].score) < 1e-5 * 10 + 1e-6


def test_onnx_runtime_computes_all_further_convolutions_of_int8_in_int8(
    build_model, photos, tmp_path
):
    """It silently computes what cannot be fused in floats, between conversions."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = build_model("test_efficientnet", crop=48).eval()
    convolutions = sum(isinstance(part, torch.nn.Conv2d) for part in model.modules())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TOLERANCE, "int8", RANDOM)
        export(model, tmp_path / "out", "onnx", precision="int8", photos=photos)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(
        tmp_path / "out" / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == convolutions - 1 > 3
    assert kinds.count("Conv") + kinds.count("FusedConv") == 1


def test_weights_in_half_precision_stay_so_and_lose_nothing(build_model, photos, tmp_path):
    """A convolutional network: the exporter multiplies its weights by their normalization."""
    model = build_model("test_efficientnet", crop=48)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.2, 3)
                module.weight.uniform_(0.2, 2)
        for tensor in model.network.parameters():
            tensor.copy_(tensor.half())
    info = export(model, tmp_path / "out", "onnx", photos=photos)
    assert info.max_difference < 1e-4
    network = onnx.load(tmp_path / "out" / "model.onnx")
    halves = [t for t in network.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    kept = sum(math.prod(t.dims) for t in halves)
    assert kept > 0.9 * sum(p.numel() for p in model.network.parameters())


def test_an_export_within_a_model_folder_is_its_own(
    exported, tiny_model_folder, build_model, photos, tmp_path
):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    shutil.copytree(exported("onnx", "fp32"), folder / "onnx")
    card = read_card(folder / "card.json").model_copy(update={"description": "changed since"})
    save_with_card(tiny_model_folder, card, folder)
    runtime = load_runtime(folder)
    assert runtime.name == ("torch" if torch.cuda.is_available() else "onnx")
    assert load_runtime(folder, "onnx").card.description == "changed since"
    assert load_runtime(folder, "torch").name == load_runtime(folder, device="cpu").name == "torch"
    assert load_runtime(folder, precision="bf16").precision == "bf16"
    save_model(build_model(crop=48, seed=1), folder)  # other weights: the export is stale
    assert load_runtime(folder).name == "torch"


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU torch computes")
def test_an_exported_model_is_scored_without_torch(exported, photos):
    script = """
import sys
from qfm_iqm.cli.main import main
try:
    main()
finally:
    print({"torch", "timm"} & sys.modules.keys())
"""
    command = [sys.executable, "-c", script, "score", *photos, "--model", exported("onnx", "fp32")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == "set()"


def test_what_was_measured_is_kept(exported):
    info = read_info(exported("openvino", "fp32"))
    assert 0 <= info.max_difference < TOLERANCE["fp32"]
    assert info.compared == min(exporting.COMPARED_CROPS, info.compared) > 10
    assert info.calibrated == 0
    assert read_info(exported("openvino", "int8")).calibrated == 12


@pytest.fixture
def written(exported, monkeypatch):
    """The network is converted once, for the tests of later steps."""
    file = exported("onnx", "fp32") / "model.onnx"

    def copied(_, out, *__):
        shutil.copy(file, out)
        return ()

    monkeypatch.setattr(exporting, "write_onnx", copied)


@pytest.mark.usefixtures("written")
def test_an_export_that_says_something_else_is_refused(model, photos, tmp_path):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.network.scale.mean += 5
    with pytest.raises(ModelError, match=r"differ from torch's by up to 0.5 standard deviations"):
        export(other, tmp_path / "out", "onnx", photos=photos)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(("after", "refused"), [(0.81, False), (0.7971, False), (0.7969, True)])
def test_an_export_that_loses_srcc_is_refused(model, photos, tmp_path, after, refused):
    def rated(candidate):
        return 0.8 if candidate is model else after

    if refused:
        with pytest.raises(ModelError, match=r"lose 0.0031 of SRCC"):
            export(model, tmp_path / "out", "onnx", photos=photos, rated=rated)
    else:
        info = export(model, tmp_path / "out", "onnx", photos=photos, rated=rated)
        assert info.srcc_change == pytest.approx(after - 0.8)


def test_int8_that_changes_the_order_of_rated_photos_is_refused(
    model, exported, tmp_path, monkeypatch
):
    """A real int8 network, and photos really scored by both: only the labels are made up."""
    file = exported("onnx", "int8") / "model.onnx"  # converted only once for these tests

    def copied(_, out, *__):
        shutil.copy(file, out)
        return ()

    monkeypatch.setattr(exporting, "write_onnx", copied)
    monkeypatch.setitem(TOLERANCE, "int8", RANDOM)
    draw = np.random.default_rng(4)
    cells = Image.fromarray(draw.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    field = np.asarray(cells.resize((60, 52), Image.Resampling.BICUBIC))
    paths = []
    for number in range(40):  # nearly equal, so that small differences decide their order
        noise = draw.normal(0, 2 + number % 5, field.shape)
        paths.append(str(tmp_path / f"{number:02d}.png"))
        Image.fromarray((field + noise).clip(0, 255).astype(np.uint8)).save(paths[-1])
    rows = list(Scorer(model).score_paths(paths))
    int8 = load_exported(exported("onnx", "int8"))
    theirs = [row.score for row in Scorer(int8).score_paths(paths)]
    moved = stats.spearmanr([row.score for row in rows], theirs).statistic - 1
    assert -0.5 < moved < -0.003

    def rated_on(names, labels):
        table = RatedTable(names=tuple(names), mos=np.array(labels))

        def srcc(candidate):
            found, _ = evaluate_model(candidate, table, tmp_path, n_boot=0, metrics=("srcc",))
            return found.row("whole", "srcc").value

        return srcc

    names = [path.rsplit("/", 1)[1] for path in paths]
    rated = rated_on(names, [row.score for row in rows])
    with pytest.raises(ModelError, match=f"in int8 by onnx lose {-moved:.4f} of SRCC, more than"):
        export(model, tmp_path / "out", "onnx", precision="int8", photos=paths, rated=rated)
    assert not (tmp_path / "out").exists()
    order = np.argsort(theirs)
    far = [order[0], order[len(order) // 2], order[-1]]  # three that both rank alike
    assert sorted(far, key=lambda place: rows[place].score) == far
    rated = rated_on([names[place] for place in far], [1, 2, 3])
    info = export(model, tmp_path / "out", "onnx", precision="int8", photos=paths, rated=rated)
    assert info.srcc_change == 0


def test_a_runtime_is_judged_like_a_model(model, exported, photos, photo_folder):
    names = [path.rsplit("/", 1)[1] for path in photos]
    scores = [row.score for row in Scorer(model).score_paths(photos)]
    table = RatedTable(names=tuple(names), mos=np.array(scores))
    evaluation, _ = evaluate_model(
        load_exported(exported("onnx", "fp32")), table, photo_folder, n_boot=0
    )
    assert evaluation.row("whole", "srcc").value == pytest.approx(1.0)


def test_mistakes_are_sentences(model, photos, tmp_path):
    with pytest.raises(ModelError, match="int8 is calibrated on real photos"):
        export(model, tmp_path / "out", "onnx", precision="int8")
    with pytest.raises(ModelError, match="in fp32 or int8, not in bf16"):
        export(model, tmp_path / "out", "onnx", precision="bf16")
    with pytest.raises(ModelError, match="there is no folder"):
        export(model, tmp_path / "gone" / "out", "onnx")
    with pytest.raises(ModelError, match="None of the given photos can be read"):
        export(model, tmp_path / "out", "onnx", photos=["gone.jpg"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(TableError, match="exists and is not an exported model"):
        export(model, tmp_path / "mine", "onnx")


def test_damage_is_noticed(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported("openvino", "fp32"), folder)
    content = bytearray((folder / "model.bin").read_bytes())
    content[100] ^= 1
    (folder / "model.bin").write_bytes(content)
    with pytest.raises(ModelError, match="is not the file that was exported"):
        load_exported(folder)
    (folder / "model.bin").unlink()
    with pytest.raises(ModelError, match=r"lacks model.bin"):
        load_exported(folder)
    info = json.loads((folder / "runtime.json").read_text())
    (folder / "runtime.json").write_text(json.dumps(info | {"runtime": "abacus"}))
    with pytest.raises(ModelError, match="does not describe an exported model"):
        load_exported(folder)


@pytest.mark.usefixtures("written")
def test_another_runtime_is_converted_to_once(
    model, tiny_model_folder, tmp_path, monkeypatch, photos
):
    monkeypatch.setenv("QFM_CACHE_DIR", str(tmp_path / "cache"))
    said = []
    first = load_runtime(tiny_model_folder, "onnx", say=said.append)
    again = load_runtime(tiny_model_folder, "onnx", say=said.append)
    assert len(said) == 1
    assert "Converting tiny-test_vit for onnx once" in said[0]
    (kept,) = (tmp_path / "cache").iterdir()
    crops = torch.rand(3, 3, 48, 48)
    assert np.array_equal(first.run(list(crops)), again.run(list(crops)))
    (kept / "model.onnx").write_bytes(b"damaged")
    assert load_runtime(tiny_model_folder, "onnx", say=said.append).name == "onnx"
    assert len(said) == 2


def test_what_does_not_go_together_is_refused(exported, tiny_model_folder, monkeypatch):
    folder = exported("onnx", "fp32")
    assert load_runtime(folder, "auto").name == "onnx"
    with pytest.raises(QFMError, match="was exported for onnx, not for torch"):
        load_runtime(folder, "torch")
    with pytest.raises(QFMError, match="was exported in fp32, not in int8"):
        load_runtime(folder, precision="int8")
    with pytest.raises(QFMError, match="There is no runtime 'abacus'"):
        load_runtime(folder, "abacus")
    with pytest.raises(QFMError, match="qfm export --precision int8"):
        load_runtime(tiny_model_folder, precision="int8")
    with pytest.raises(QFMError, match="computes in fp32 or int8, not in bf16"):
        load_runtime(tiny_model_folder, "onnx", precision="bf16")
    monkeypatch.setattr("qfm_iqm.scoring.runtimes.load.find_spec", lambda _: None)
    if not torch.cuda.is_available():
        assert load_runtime(tiny_model_folder, "auto").name == "torch"
    assert load_runtime(tiny_model_folder, precision="bf16").precision == "bf16"
