"""The hub client's log is not shown; a failure gives one sentence."""

import logging

import pytest

from qfm_iqm.errors import ModelError
from qfm_iqm.model.hub_client import asking_hub

from ..hub import load_in_process, serving_hub


def test_a_hub_that_is_overloaded_is_asked_again_without_a_word(tiny_model_folder, tmp_path):
    with serving_hub(tiny_model_folder, overloaded=2) as hub:
        endpoint = f"http://127.0.0.1:{hub.server_port}"
        (sha256,) = load_in_process("hub:owner/name", home=tmp_path, HF_ENDPOINT=endpoint)
        assert hub.overloaded == 0
    assert len(sha256) == 64


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ConnectionError("away\nfor now"), "away"), (ConnectionError(), "ConnectionError")],
)
def test_a_failure_is_one_sentence(error, reason):
    with pytest.raises(ModelError, match=f"^Nothing came: {reason} Wait.$"):  # noqa: SIM117
        with asking_hub("Nothing came", "Wait."):
            raise error


def test_afterwards_the_client_logs_as_before():
    before = logging.getLogger("huggingface_hub").level
    with pytest.raises(ModelError), asking_hub("Nothing came"):
        raise ConnectionError
    assert logging.getLogger("huggingface_hub").level == before
