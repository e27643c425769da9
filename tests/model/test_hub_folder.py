"""A model as a hub repository, as read by the hub's own client."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard as HubCard
from huggingface_hub import metadata_load

from qfm_iqm.errors import ModelError
from qfm_iqm.model.card import BaseWeights, ResultRow
from qfm_iqm.model.folder import load_card, load_model
from qfm_iqm.model.hub_folder import hub_page, save_hub_folder
from qfm_iqm.model.locate import CARD_FILE, HUB_EXPORTS
from qfm_iqm.scoring.runtimes.export_folder import FILES, INFO_FILE, export_name
from qfm_iqm.scoring.runtimes.load import load_runtime
from qfm_iqm.scoring.scorer import Scorer

from ..hub import load_in_process, serving_hub


@pytest.fixture
def card(tiny_model_folder):
    figure = {"data": "Some Set, 9 photos (test split)", "images": 9}
    return load_card(tiny_model_folder).model_copy(
        update={
            "license": "Apache-2.0; trained on photos that are shared for research",
            "training": {"data": "Some Set, 9 photos"},
            "results": [
                ResultRow(
                    **figure, subset="whole", metric="srcc", value=0.8, ci_low=0.7, ci_high=0.9
                ),
                ResultRow(
                    **figure, subset="night", metric="srcc", value=0.5, ci_low=0.3, ci_high=0.6
                ),
            ],
        }
    )


def read(page, tmp_path):
    """The front matter, as the hub's client reads it."""
    path = tmp_path / "README.md"
    path.write_text(page, "utf-8")
    return metadata_load(path)


def test_the_hub_reads_license_data_task_and_metrics_with_their_intervals(card, tmp_path):
    said = read(hub_page(card), tmp_path)
    assert said["license"] == "apache-2.0"
    assert said["datasets"] == ["Some Set"]
    assert said["pipeline_tag"] == "image-classification"
    assert said["library_name"] == "qfm-iqm"
    whole, night = HubCard(hub_page(card)).data.eval_results
    assert (whole.metric_type, whole.metric_value) == ("srcc", 0.8)
    assert whole.metric_name == "SRCC, 95% interval 0.7000 to 0.9000"
    assert whole.dataset_name == "Some Set, 9 photos (test split)"
    assert (whole.dataset_config, night.dataset_config) == ("all photos", "night")
    assert (night.metric_value, night.dataset_type) == (0.5, "some-set")


def test_the_page_holds_the_whole_license_and_says_nothing_of_what_it_does_not_know(card):
    page = hub_page(card)
    assert "* **License**: Apache-2.0; trained on photos that are shared for research" in page
    assert "Not measured" not in page
    assert "--model hub:OWNER/NAME" in page


@pytest.mark.parametrize(
    ("license", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("", {"license": "unknown"}),
        ("Our Own Terms, 2026", {"license": "other", "license_name": "our-own-terms-2026"}),
    ],
)
def test_licenses_have_the_names_of_the_hub(card, tmp_path, license, expected):
    said = read(hub_page(card.model_copy(update={"license": license})), tmp_path)
    assert {name: said[name] for name in said if name.startswith("license")} == expected


def test_a_card_without_data_and_figures_claims_none(card, tmp_path):
    empty = card.model_copy(update={"training": {}, "results": []})
    said = read(hub_page(empty), tmp_path)
    assert not {"datasets", "metrics", "model-index", "base_model"} & said.keys()


def test_a_packed_model_names_the_weights_that_it_needs(card, tmp_path):
    base = BaseWeights(name="vit_tiny.some_tag", sha256="0" * 64)
    said = read(hub_page(card.model_copy(update={"base": base})), tmp_path)
    assert said["base_model"] == "timm/vit_tiny.some_tag"


def test_the_folder_is_loaded_from_the_hub(tiny_model_folder, tmp_path):
    save_hub_folder(tiny_model_folder, tmp_path / "upload")
    ours = {path.name: path.read_bytes() for path in (tmp_path / "upload").iterdir()}
    assert ours.keys() == {"README.md", "card.json", "model.safetensors"}
    assert ours["model.safetensors"] == (tiny_model_folder / "model.safetensors").read_bytes()
    with serving_hub(tmp_path / "upload") as hub:
        endpoint = f"http://127.0.0.1:{hub.server_port}"
        (found,) = load_in_process("hub:owner/name", home=tmp_path / "home", HF_ENDPOINT=endpoint)
    assert found == json.loads(ours["card.json"])["weights_sha256"]


RUNNING = """
import sys
from qfm_iqm import Scorer, load_runtime
runtime = load_runtime(sys.argv[1])
(row,) = Scorer(runtime).score_paths([sys.argv[2]])
print(runtime.name, row.score, "torch" in sys.modules)
print(load_runtime(sys.argv[1], precision="int8").precision)
"""


def test_exports_come_from_the_hub_too(tmp_path, photo_folder):
    pytest.importorskip("onnxruntime")
    save_hub_folder("default", tmp_path / "upload")
    photo = str(photo_folder / "photo_05.png")
    (expected,) = Scorer(load_runtime("default")).score_paths([photo])
    names = ("hub:owner/name", photo)
    with serving_hub(tmp_path / "upload") as hub:
        endpoint = f"http://127.0.0.1:{hub.server_port}"
        said = load_in_process(*names, home=tmp_path, code=RUNNING, HF_ENDPOINT=endpoint)
        assert said == [f"onnx {expected.score} False", "int8"]
        fetched = len([line for line in hub.asked if line.startswith("GET")])
        assert fetched > 2  # files of the same content once
        again = load_in_process(*names, home=tmp_path, code=RUNNING, HF_ENDPOINT=endpoint)
        assert again == said
        assert len([line for line in hub.asked if line.startswith("GET")]) == fetched
    assert load_in_process(*names, home=tmp_path, code=RUNNING, HF_HUB_OFFLINE="1") == said


def test_half_an_export_on_the_hub_is_none(tmp_path):
    save_hub_folder("default", tmp_path / "upload")
    (tmp_path / "upload" / "onnx" / "model.onnx").unlink()
    code = "import sys\nfrom qfm_iqm import load_runtime\nprint(load_runtime(sys.argv[1]).name)"
    with serving_hub(tmp_path / "upload") as hub:
        endpoint = f"http://127.0.0.1:{hub.server_port}"
        said = load_in_process("hub:owner/name", home=tmp_path, code=code, HF_ENDPOINT=endpoint)
    assert said == ["torch"]


def test_the_files_of_exports_are_those_that_exports_write():
    names = {Path(file).name for files in HUB_EXPORTS for file in files}
    assert names == {CARD_FILE, INFO_FILE, *FILES["onnx"]}
    folders = {Path(file).parent.name for files in HUB_EXPORTS for file in files}
    assert folders == {export_name("onnx", precision) for precision in ("fp32", "int8")}


def test_a_models_own_folder_becomes_one_of_the_hub(build_model, tmp_path):
    from qfm_iqm.model.folder import save_model

    save_model(build_model(), tmp_path / "mine")
    before = load_model(tmp_path / "mine")
    save_hub_folder(tmp_path / "mine", tmp_path / "mine")
    assert load_model(tmp_path / "mine").card == before.card
    assert (tmp_path / "mine" / "README.md").is_file()


def test_mistakes_are_sentences(tiny_model_folder, tmp_path):
    with pytest.raises(ModelError, match="There is no model 'gone'"):
        save_hub_folder("gone", tmp_path)
    (tmp_path / "README.md").mkdir()
    with pytest.raises(ModelError, match=r"cannot be written to .*README\.md"):
        save_hub_folder(tiny_model_folder, tmp_path)
