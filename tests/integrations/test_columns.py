"""Scores as columns of real Hugging Face datasets; for Ray Data see `test_ray_job.py`."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qfm_iqm.errors import QFMError
from qfm_iqm.integrations.columns import ScoreColumns
from qfm_iqm.scoring.scorer import Scorer


@pytest.fixture(scope="module")
def photos(photo_folder):
    return sorted(map(str, photo_folder.iterdir()))


@pytest.fixture(scope="module")
def expected(photos, tiny_model_folder):
    return list(Scorer(str(tiny_model_folder)).score_paths(photos))


@pytest.fixture(scope="module")
def add_scores(tiny_model_folder):
    return ScoreColumns(str(tiny_model_folder))


def as_array(path):
    return np.asarray(Image.open(path).convert("RGB"))


FORMS = {
    "path": str,
    "bytes": lambda path: Path(path).read_bytes(),
    "PIL": Image.open,
    "array": as_array,
    "dict of bytes": lambda path: {"bytes": Path(path).read_bytes(), "path": None},
    "dict of path": lambda path: {"bytes": None, "path": path},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_has_the_score_of_its_file(add_scores, photos, expected, form):
    found = add_scores({"image": [FORMS[form](path) for path in photos], "other": [0] * 12})
    assert found.keys() == {"score", "percentile", "out_of_distribution", "error"}
    assert found["score"] == pytest.approx([row.score for row in expected], abs=1e-4)
    assert found["error"] == [""] * 12


def test_what_cannot_be_read_is_an_error_at_its_place(add_scores, photos):
    wrong = [None, b"no image", {"bytes": None, "path": None}, "gone.jpg", 7,
             np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]  # fmt: skip
    found = add_scores({"image": [*wrong, photos[0]]})
    assert [score is None for score in found["score"]] == [True] * 7 + [False]
    said = ("there is no image", "cannot read", "there is no image", "there is no such file",
            "it is a int, not an image", "of uint8, not (4, 4)", "of float32", "")  # fmt: skip
    for sentence, error in zip(said, found["error"], strict=True):
        assert sentence in error


def test_columns_are_chosen_and_others_kept(tiny_model_folder, photos, expected):
    chosen = ScoreColumns(
        str(tiny_model_folder), image="jpg", columns=["width", "score"], keep=["name"]
    )
    found = chosen({"jpg": photos[:2], "name": np.array(["a", "b"]), "more": [1, 2]})
    assert list(found) == ["name", "width", "score"]
    assert found["name"] == ["a", "b"]
    assert found["width"] == [row.width for row in expected[:2]]


def test_mistakes_are_sentences(tiny_model_folder):
    with pytest.raises(QFMError, match="There is no column 'quality': choose from path,"):
        ScoreColumns(str(tiny_model_folder), columns=["quality"])
    with pytest.raises(QFMError, match="The batch has no column 'image': jpg, txt"):
        ScoreColumns(str(tiny_model_folder))({"jpg": [], "txt": []})
    for single in (Image.new("RGB", (8, 8)), "a.jpg", b"bytes", {"bytes": b"", "path": None}):
        with pytest.raises(QFMError, match="Give batches of images"):
            ScoreColumns(str(tiny_model_folder))({"image": single})


def test_reference_statistics_are_given(photos):
    found = ScoreColumns()({"image": photos[:2]})
    rows = list(Scorer("default").score_paths(photos[:2]))
    assert found["percentile"] == [row.percentile for row in rows]
    assert found["out_of_distribution"] == [row.out_of_distribution for row in rows]


def test_causes_are_given_if_they_are_asked_for(photos):
    found = ScoreColumns(columns="cause")({"image": photos})
    rows = list(Scorer("default", causes=True).score_paths(photos))
    assert found["cause"] == [row.cause for row in rows]
    assert any(found["cause"])


def test_it_travels_without_its_model_and_knows_its_weights(add_scores, photos):
    sent = pickle.dumps(add_scores)
    assert len(sent) < 2000
    again = pickle.loads(sent)
    assert again.weights == add_scores.weights
    assert again({"image": photos[:1]}) == add_scores({"image": photos[:1]})


@pytest.fixture
def dataset(photos, tmp_path, monkeypatch):
    """Photos and a broken one, as a parquet file of the hub holds them."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"bytes": Path(path).read_bytes(), "path": Path(path).name} for path in photos]
    rows.append({"bytes": b"broken", "path": "broken.jpg"})
    features = datasets.Features({"image": datasets.Image(), "number": datasets.Value("int64")})
    made = datasets.Dataset.from_dict({"image": rows, "number": range(13)}, features=features)
    made.to_parquet(tmp_path / "train.parquet")
    return datasets.Dataset.from_parquet(str(tmp_path / "train.parquet"))


@pytest.mark.parametrize("processes", [None, 2])
def test_a_dataset_is_mapped_over(dataset, expected, tiny_model_folder, processes):
    import datasets

    undecoded = dataset.cast_column("image", datasets.Image(decode=False))
    add_scores = ScoreColumns(str(tiny_model_folder))
    scored = undecoded.map(add_scores, batched=True, batch_size=5, num_proc=processes)
    assert scored.column_names[:3] == ["image", "number", "score"]
    assert scored["score"][:12] == pytest.approx([row.score for row in expected], abs=1e-4)
    assert scored["score"][12] is None
    assert "cannot read" in scored["error"][12]
    assert scored["number"][:] == list(range(13))


def test_decoded_images_are_scored_too(dataset, expected, add_scores):
    scored = dataset.select(range(12)).map(add_scores, batched=True)
    assert scored["score"][:] == pytest.approx([row.score for row in expected], abs=1e-4)
    kept = io.BytesIO(scored.with_format(None)[0]["image"].tobytes())
    assert kept.getbuffer().nbytes > 0


def test_what_was_mapped_is_found_again_unless_the_model_changes(dataset, build_model, tmp_path):
    import datasets
    from qfm_iqm.model.folder import save_model

    undecoded = dataset.cast_column("image", datasets.Image(decode=False))
    prints = []
    for seed in (0, 0, 1):
        save_model(build_model(seed=seed), tmp_path / "model")
        scored = undecoded.map(ScoreColumns(str(tmp_path / "model")), batched=True)
        prints.append(scored._fingerprint)
    assert prints[0] == prints[1] != prints[2]
