"""The options of the method: the paper's defaults, their bounds, and what is refused."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from qfm_iqm.method.config import MethodConfig


def test_the_defaults_are_those_of_the_method():
    assert MethodConfig().model_dump() == {
        "kind": "baseline",
        "memory": 1024,
        "matching": "quality",
        "tau": 0.25,
        "delta": 1.0,
        "top_k": 1,
        "alpha": 0.1,
        "tokens": "all",
        "renormalize": False,
        "target": "own",
        "w_qcc": 1.0,
        "w_u": 0.5,
        "w_pl": 0.0,
        "noise_from": "both",
        "start_epoch": 0.0,
    }


FROM_ZERO = ("alpha", "w_qcc", "w_u", "w_pl", "start_epoch")
ALLOWED = {
    "kind": ["baseline", "qfm"],
    "matching": ["quality", "semantics", "random", "gaussian"],
    "tokens": ["all", "patches", "class"],
    "target": ["own", "own_gradient", "label"],
    "noise_from": ["supervised", "unlabeled", "both"],
    "memory": [1, 10**6],
    "top_k": [1, 50],
    "tau": [1e-9, 0.25, 3, 100.0],
    "delta": [1e-9, 1, 100.0],
    "renormalize": [True, False],
} | {name: [0, 0.0, 1, 7.5] for name in FROM_ZERO}

REFUSED = {
    **{name: ["", "Both", "nearest", None, 1] for name in ("kind", "matching", "tokens", "target")},
    "noise_from": ["all", "", None],
    "memory": [0, -1, 3.0, "8", None, True],
    "top_k": [0, -1, 2.0, "1", None],
    "renormalize": [1, 0, "yes", None],
    **{name: [0, 0.0, -0.1, float("inf"), float("nan"), "0.5", None] for name in ("tau", "delta")},
    **{name: [-1e-9, -1, float("inf"), float("nan"), "0.5", None] for name in FROM_ZERO},
    "beta": [1.0],  # unknown
}


def cases(table):
    return [(name, value) for name, values in table.items() for value in values]


def test_every_option_is_among_the_cases():
    assert ALLOWED.keys() == MethodConfig.model_fields.keys()
    assert REFUSED.keys() - {"beta"} == MethodConfig.model_fields.keys()


@pytest.mark.parametrize(("name", "value"), cases(ALLOWED))
def test_values_within_bounds_are_kept(name, value):
    assert getattr(MethodConfig(**{name: value}), name) == value


@pytest.mark.parametrize(("name", "value"), cases(REFUSED))
def test_values_out_of_bounds_are_refused_by_name(name, value):
    with pytest.raises(ValidationError, match=name):
        MethodConfig(**{name: value})


def test_a_method_does_not_change_after_it_was_checked():
    with pytest.raises(ValidationError, match="frozen"):
        MethodConfig().alpha = -1.0


def test_options_are_checked_without_loading_torch():
    script = "import sys, qfm_iqm.method.config; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
