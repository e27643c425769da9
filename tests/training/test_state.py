"""A state is restored unchanged, from a file without pickle."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from qfm_iqm.errors import ModelError
from qfm_iqm.training.state import (
    load_state,
    random_state,
    restore_random_state,
    save_state,
)


def same(a, b):
    """Equal in type and value; tuples come back as lists, as in JSON."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(b) is list and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


STATE = {
    "epoch": 3,
    "best": {"epoch": None, "srcc": 0.25, "name": "a/b ü"},
    "optimizer": {
        "state": {0: {"step": torch.tensor(7.0)}, 11: {"exp_avg": torch.randn(2, 3)}},
        "param_groups": [{"params": [0, 11], "betas": (0.9, 0.999), "foreach": None}],
    },
    "memory": {"tokens": torch.randn(2, 3, 4).bfloat16(), "contents": torch.arange(4)},
    "flags": torch.tensor([True, False]),
    "empty": {"tensor": torch.empty(0, 5), "list": [], "dict": {}},
    "random": torch.get_rng_state(),
    "transposed": torch.arange(6).reshape(2, 3).T,
    "view": torch.arange(100)[10:20:3],
}


def test_round_trip(tmp_path):
    path = tmp_path / "state.safetensors"
    save_state(STATE, path)
    assert same(STATE, load_state(path))
    assert list(tmp_path.iterdir()) == [path]  # no half-written file


def test_it_is_a_safetensors_file(tmp_path):
    path = tmp_path / "state.safetensors"
    save_state(STATE, path)
    with safe_open(path, framework="pt") as file:
        json.loads(file.metadata()["tree"])
        sizes = [file.get_tensor(key).numel() for key in file.keys()]  # noqa: SIM118
    assert sum(sizes) < 10_000  # a view does not save its whole storage
    assert not path.read_bytes().startswith((b"\x80", b"PK"))  # pickle, torch's zip


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.integers(0, 3).map(lambda n: torch.arange(n, dtype=torch.float32)),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.integers(0, 3), st.sampled_from("ab/0")), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(tree=st.dictionaries(st.sampled_from(["a", "b", "a/b", "items"]), trees, max_size=4))
@settings(deadline=None)
def test_any_nesting_comes_back(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    save_state(tree, path)
    assert same(tree, load_state(path))


def test_keys_that_look_alike_stay_apart(tmp_path):
    state = {
        "a/b": torch.tensor(1),
        "a": {"b": torch.tensor(2), 0: torch.tensor(3), "0": torch.tensor(4)},
    }
    save_state(state, tmp_path / "state.safetensors")
    assert same(state, load_state(tmp_path / "state.safetensors"))


def test_an_optimizer_goes_on_identically(tmp_path):
    def trained(steps, optimizer, weights):
        for step in range(steps):
            optimizer.zero_grad()
            ((weights - step) ** 2).sum().backward()
            optimizer.step()

    first = torch.nn.Parameter(torch.randn(4, 3))
    optimizer = torch.optim.AdamW([first], lr=0.1)
    trained(3, optimizer, first)
    save_state({"w": first, "o": optimizer.state_dict()}, tmp_path / "state.safetensors")
    state = load_state(tmp_path / "state.safetensors")
    second = torch.nn.Parameter(state["w"])
    resumed = torch.optim.AdamW([second], lr=0.7)
    resumed.load_state_dict(state["o"])
    trained(4, optimizer, first)
    trained(4, resumed, second)
    assert torch.equal(first, second)


def test_random_numbers_go_on_identically(tmp_path):
    torch.manual_seed(3)
    torch.rand(5)
    save_state({"random": random_state()}, tmp_path / "state.safetensors")
    expected = torch.rand(5), torch.randn(3)
    torch.manual_seed(99)
    restore_random_state(load_state(tmp_path / "state.safetensors")["random"])
    assert torch.equal(torch.rand(5), expected[0])
    assert torch.equal(torch.randn(3), expected[1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-10]),
        lambda path: path.write_bytes(path.read_bytes()[:20]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x80\x04K\x01."),
        lambda path: save_file({"a": torch.zeros(1)}, path),
        lambda path: save_file({"a": torch.zeros(1)}, path, metadata={"tree": "{nonsense"}),
        lambda path: save_file({"a": torch.zeros(1)}, path, metadata={"tree": '{"x": 1}'}),
        lambda path: save_file(
            {"a": torch.zeros(1)}, path, metadata={"tree": '{"__tensor__": "b"}'}
        ),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "state.safetensors"
    save_state(STATE, path)
    damage(path)
    with pytest.raises(ModelError, match=r"training state .*state\.safetensors cannot be read"):
        load_state(path)


def test_a_state_replaces_the_one_before_only_when_it_is_whole(tmp_path):
    path = tmp_path / "state.safetensors"
    save_state({"epoch": 1}, path)
    with pytest.raises(TypeError):
        save_state({"epoch": object()}, path)
    assert load_state(path) == {"epoch": 1}
