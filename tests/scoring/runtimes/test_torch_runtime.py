"""torch as a runtime: in other precisions, compiled, and on a GPU if there is one."""

import copy
import pickle

import numpy as np
import pytest
import torch

from qfm_iqm.model.folder import load_model
from qfm_iqm.scoring.runtimes.torch_runtime import TorchRuntime
from qfm_iqm.scoring.scorer import Scorer

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


@pytest.fixture
def crops():
    draw = np.random.default_rng(3)
    return [draw.random((3, 48, 48), dtype=np.float32) for _ in range(7)]


def std_of(model):
    return model.network.scale.std.item()


@pytest.mark.parametrize("device", DEVICES)
def test_bf16_scores_are_close_to_those_of_fp32(tiny_model_folder, crops, device):
    model = load_model(tiny_model_folder)
    exact = TorchRuntime(model, device="cpu").run(crops)
    runtime = TorchRuntime(load_model(tiny_model_folder), device=device, precision="bf16")
    found = runtime.run(crops)
    assert found.dtype == np.float64
    assert not np.array_equal(found, exact)
    np.testing.assert_allclose(found, exact, atol=0.1 * std_of(model))
    with pytest.raises(ValueError, match="fp32 or bf16, not in int8"):
        TorchRuntime(model, precision="int8")


@needs_gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_gives_the_scores_of_the_processor(tiny_model_folder, crops, compiled):
    model = load_model(tiny_model_folder)
    exact = TorchRuntime(model, device="cpu").run(crops)
    runtime = TorchRuntime(load_model(tiny_model_folder), device="cuda", compiled=compiled)
    assert {part.device.type for part in runtime.model.network.parameters()} == {"cuda"}
    np.testing.assert_allclose(runtime.run(crops), exact, atol=1e-3 * std_of(model))
    few = runtime.run(crops[:2])  # as a smaller last batch
    np.testing.assert_allclose(few, exact[:2], atol=1e-3 * std_of(model))


@needs_gpu
def test_files_are_scored_on_a_gpu_as_on_the_processor(tiny_model_folder, photo_folder):
    files = sorted(path for path in photo_folder.iterdir() if path.suffix in (".png", ".jpg"))
    found = []
    for device in ("cpu", "cuda"):
        scorer = Scorer(load_model(tiny_model_folder), device=device)
        found.append([row.score for row in scorer.score_paths(files) if row.status == "ok"])
    assert found[0]
    np.testing.assert_allclose(*found, atol=0.01)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_pickled_runtime_is_made_anew(tiny_model_folder, crops, precision):
    model = load_model(tiny_model_folder)
    runtime = TorchRuntime(model, device="cpu", precision=precision)
    found = pickle.loads(pickle.dumps(runtime))
    assert found.model is not model
    assert found.precision == precision
    np.testing.assert_array_equal(found.run(crops), runtime.run(crops))
    compiled = TorchRuntime(model, device="cpu", compiled=True)  # compiles on its first run
    assert pickle.loads(pickle.dumps(compiled))._compiled is not None
    assert copy.deepcopy(compiled) is compiled


def test_a_network_of_another_precision_is_run_in_its_own(tiny_model_folder, crops):
    expected = TorchRuntime(load_model(tiny_model_folder), device="cpu").run(crops)
    found = TorchRuntime(load_model(tiny_model_folder).double(), device="cpu").run(crops)
    np.testing.assert_allclose(found, expected, atol=1e-3)
