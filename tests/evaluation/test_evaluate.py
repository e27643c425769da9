import csv

import numpy as np
import pytest
from scipy import stats

from qfm_iqm.datasets.folds import official_fold
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError
from qfm_iqm.evaluation.evaluate import evaluate_model, recorded_split, write_images


@pytest.fixture
def model(build_model):
    return build_model(crop=48)


@pytest.fixture
def table(photo_folder):
    names = tuple(sorted(path.name for path in photo_folder.iterdir()))
    return RatedTable(
        names=names,
        mos=np.random.default_rng(0).normal(50, 10, len(names)),
        contents=tuple(f"scene {number // 2}" for number in range(len(names))),
        columns={"subset": tuple(name.rpartition(".")[2] for name in names)},
    )


def test_figures_are_scipys_on_the_scores_of_each_image(model, table, photo_folder):
    evaluation, rows = evaluate_model(model, table, photo_folder, by="subset", n_boot=20)
    scores = np.array([model.score(photo_folder / name).value for name in table.names])
    np.testing.assert_allclose([row.score for row in rows], scores, atol=2e-4)
    for subset, keep in [
        ("whole", np.full(12, True)),
        *[(kind, np.array(table.columns["subset"]) == kind) for kind in ("jpg", "png", "webp")],
    ]:
        assert evaluation.row(subset, "srcc").n == keep.sum()
        for metric, reference in (
            ("srcc", stats.spearmanr),
            ("plcc", stats.pearsonr),
            ("krcc", stats.kendalltau),
        ):
            expected = reference(scores[keep], table.mos[keep]).statistic
            assert evaluation.value(subset, metric) == pytest.approx(expected, abs=1e-4)
    row = evaluation.row("whole", "srcc")
    assert row.ci_low <= row.value <= row.ci_high


def test_the_per_image_table(model, table, photo_folder, tmp_path):
    for by, header in ((None, []), ("subset", ["subset"])):
        _, scored = evaluate_model(model, table, photo_folder, by=by, n_boot=0)
        write_images(tmp_path / "images.csv", table, scored, by)
        with (tmp_path / "images.csv").open(newline="") as file:
            first, *rows = csv.reader(file)
        assert first == ["name", "mos", "score", "crop_std", *header]
        assert [row[0] for row in rows] == list(table.names)
        assert [float(row[1]) for row in rows] == table.mos.tolist()
        assert [float(row[2]) for row in rows] == [row.score for row in scored]
        assert [row[4:] for row in rows] == [
            [kind] if by else [] for kind in table.columns["subset"]
        ]


def test_progress_sees_every_row(model, table, photo_folder):
    seen = []

    def progress(rows, total):
        for row in rows:
            seen.append((row.path, total))
            yield row

    evaluate_model(model, table, photo_folder, n_boot=0, progress=progress)
    assert seen == [(str(photo_folder / name), 12) for name in table.names]


def test_a_table_without_labels_is_refused(model, table, photo_folder):
    with pytest.raises(TableError, match="has no labels"):
        evaluate_model(model, RatedTable(names=table.names), photo_folder)


def test_names_that_match_no_file_are_refused(model, photo_folder):
    table = RatedTable(names=("photo_00.jpg", "gone.jpg", "b.jpg"), mos=np.arange(3.0))
    with pytest.raises(TableError, match=r"gone\.jpg"):
        evaluate_model(model, table, photo_folder)


def test_images_that_cannot_be_read_are_refused(model, tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_text("no image")
    table = RatedTable(names=tuple(f"{n}.jpg" for n in range(4)), mos=np.arange(4.0))
    with pytest.raises(
        TableError, match=r"4 of 4 rated images cannot be read, the first: .*0\.jpg"
    ):
        evaluate_model(model, table, tmp_path)


def test_too_few_images_and_an_unknown_group_are_refused(model, table, photo_folder):
    with pytest.raises(TableError, match="3"):
        evaluate_model(model, table.select([0, 1]), photo_folder)
    with pytest.raises(TableError, match="kind"):
        evaluate_model(model, table, photo_folder, by="kind")


def carded(model, table, **data):
    split = split_by_content(table, test=0.25, validation=0.2, seed=3)
    recipe = {"data": {"test": 0.25, "validation": 0.2, "split_seed": 3} | data}
    training = {"split_sha256": split.sha256, "recipe": recipe}
    return split, model.card.model_copy(update={"training": training})


@pytest.mark.parametrize("subset", ["train", "validation", "test"])
def test_the_recorded_split_is_that_of_the_split(model, table, subset):
    split, card = carded(model, table)
    shuffled = table.select(np.random.default_rng(1).permutation(len(table)))
    found = recorded_split(card, shuffled, subset)
    assert found.names == split.names(subset)
    labels = dict(zip(table.names, table.mos, strict=True))
    assert found.mos.tolist() == [labels[name] for name in found.names]


def test_another_table_or_rule_is_refused(model, table):
    _, card = carded(model, table)
    with pytest.raises(TableError, match="is not the table that 'tiny-test_vit' was trained on"):
        recorded_split(card, table.select(range(11)), "test")
    _, card = carded(model, table, split_seed=4)
    with pytest.raises(TableError, match="is not the table"):
        recorded_split(card, table, "test")


@pytest.mark.parametrize(
    "training", [{}, {"split_sha256": "ab"}, {"split_sha256": "ab", "recipe": {"data": {}}}]
)
def test_a_card_without_split_is_refused(model, table, training):
    card = model.card.model_copy(update={"training": training})
    with pytest.raises(TableError, match="records no rule for its test split"):
        recorded_split(card, table, "test")


def test_the_part_of_an_official_split_is_recorded_too(model, table):
    values = ("train",) * 6 + ("test",) * 6
    official = RatedTable(table.names, table.mos, columns={"split": values})
    split = official_fold(official, validation=0.34, fold=3)
    _, card = carded(model, table, split="official", validation=0.34)
    card.training["split_sha256"] = split.sha256
    assert recorded_split(card, official, "test").names == tuple(sorted(table.names[6:]))
    assert recorded_split(card, official, "validation").names == split.validation
    card.training["recipe"]["data"]["split"] = "file"
    with pytest.raises(TableError, match="a split from a file, which its card does not hold"):
        recorded_split(card, official, "test")
