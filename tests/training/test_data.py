"""From tables to training data: splits by content, and no training on held-out images."""

import csv
import json
import math
import shutil
from dataclasses import astuple, replace

import pytest

from qfm_iqm.datasets.splits import Split
from qfm_iqm.errors import QFMError, RecipeError, TableError
from qfm_iqm.training.data import UnlabeledImage, load_data
from qfm_iqm.training.pseudo_labels import PseudoLabel


@pytest.fixture
def rows(rated_set):
    with (rated_set / "labelled.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def other_labels(rated_set, tmp_path, recipe_content):
    """A recipe's data whose labels are other rows over the same images."""

    def make(rows, **changes):
        path = tmp_path / "other.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        return {"data__labels": str(path), **changes}

    return make


def test_parts_are_whole_contents_and_labels_those_of_the_table(make_recipe, rows, rated_set):
    data = load_data(make_recipe(train__crops_per_image=1))
    by_name = {row["name"]: row for row in rows}
    contents = {
        part: {by_name[name]["content"] for name in data.split.names(part)}
        for part in ("train", "validation", "test")
    }
    assert {part: len(c) for part, c in contents.items()} == {
        "train": 6,
        "validation": 2,
        "test": 2,
    }
    assert set(data.validation.contents) == contents["validation"]
    assert set(data.test.contents) == contents["test"]
    assert len(data.samples) == 24
    ids = {}
    for sample in data.samples:
        row = by_name[sample.path.name]
        assert sample.path == rated_set / row["name"]
        assert sample.label == float(row["mos"])
        assert sample.place is None
        assert row["content"] in contents["train"]
        assert ids.setdefault(row["content"], sample.content) == sample.content
    assert len(set(ids.values())) == 6
    # Mean and standard deviation of the training split alone.
    labels = [sample.label for sample in data.samples]
    mean = math.fsum(labels) / 24
    std = math.sqrt(math.fsum((y - mean) ** 2 for y in labels) / 24)
    assert data.label_mean == pytest.approx(mean, rel=1e-12)
    assert data.label_std == pytest.approx(std, rel=1e-12)


def test_crops_per_image_repeats_the_training_part(make_recipe):
    one, three = (load_data(make_recipe(train__crops_per_image=n)) for n in (1, 3))
    assert three.samples == one.samples * 3
    assert three.label_std == one.label_std


def test_the_split_seed_decides_the_split(make_recipe):
    splits = {load_data(make_recipe(data__split_seed=seed)).split.sha256 for seed in (0, 0, 1, 2)}
    assert len(splits) == 3


@pytest.mark.parametrize("value", ["0.1", "55", "3.3"])
def test_equal_labels_are_refused(make_recipe, other_labels, rows, value):
    for row in rows:
        row["mos"] = value
    with pytest.raises(TableError, match=rf"24 labels of the train split .*equal \({value}\)"):
        load_data(make_recipe(**other_labels(rows)))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_equal_labels_to_judge_by_are_refused_before_training(
    make_recipe, other_labels, rows, part
):
    names = load_data(make_recipe()).split.names(part)
    for row in rows:
        if row["name"] in names:
            row["mos"] = "0.7"
    with pytest.raises(TableError, match=rf"8 labels of the {part} split .*are equal \(0.7\)"):
        load_data(make_recipe(**other_labels(rows)))


def test_too_few_images_to_judge_by_are_refused_before_training(make_recipe):
    with pytest.raises(TableError, match=r"validation split .* holds 4 images, but needs at least"):
        load_data(make_recipe(data__validation=0.05))


def test_a_table_that_names_no_file_is_refused_by_name(make_recipe, other_labels, rows):
    rows[3]["name"] = "lost.jpg"
    with pytest.raises(TableError, match=r"lost\.jpg"):
        load_data(make_recipe(**other_labels(rows)))


def test_an_unknown_group_is_refused(make_recipe):
    with pytest.raises(TableError, match="camera"):
        load_data(make_recipe(data__group="camera"))


def test_contents_may_be_the_groups(make_recipe):
    data = load_data(make_recipe(data__group="content", train__crops_per_image=1))
    groups = {sample.group for sample in data.samples}
    assert len(groups) == len(set(data.train.contents))


def test_labels_beyond_the_scale_are_refused(make_recipe, rows, other_labels):
    scale = {"minimum": 0, "maximum": max(float(row["mos"]) for row in rows)}
    load_data(make_recipe(data__label=scale))
    rows[5]["mos"] = str(scale["maximum"] + 0.5)
    with pytest.raises(TableError, match=f"1 label lies beyond the scale .* of {rows[5]['name']}"):
        load_data(make_recipe(data__label=scale, **other_labels(rows)))


# Pseudo-labels


def pseudo_rows(rows):
    return [PseudoLabel(row["name"], row["content"], 1, 2, 40.0 + i) for i, row in enumerate(rows)]


def written(path, rows, crop=32, shorter_side=None):
    """A table as a teacher writes it."""
    facts = {"preprocessing": {"crop": crop, "shorter_side": shorter_side}}
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {json.dumps(facts)}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "content", "top", "left", "score"))
        writer.writerows(astuple(row) for row in rows)
    return path


def test_pseudo_labels_are_added_as_labels(make_recipe, rows, tmp_path):
    """Two tables, one of them of a photo that the other lacks."""
    root = shutil.copytree(make_recipe().data.root, tmp_path / "set")
    shutil.copy(root / rows[0]["name"], root / "unlabeled.jpg")
    new = [{"name": "unlabeled.jpg", "content": "new"}]
    recipe = make_recipe(data__root=str(root), train__crops_per_image=1)
    plain = load_data(recipe)
    trained = [row for row in rows if row["name"] in plain.train.names]
    tables = [
        written(tmp_path / "a.csv", pseudo_rows(trained)),
        written(tmp_path / "b.csv", pseudo_rows(new)),
    ]
    data = load_data(recipe, pseudo_labels=tables)
    assert data.samples[:24] == plain.samples
    added = data.samples[24:]
    assert data.supervised == len(data.samples) == 24 + 24 + 1
    content_of = {sample.path: sample.content for sample in plain.samples}
    for sample, row in zip(added, trained, strict=False):
        assert (sample.path.name, sample.place) == (row["name"], (1, 2))
        assert sample.content == content_of[sample.path]  # one id per content
    assert [sample.label for sample in added] == [*(40.0 + i for i in range(24)), 40.0]
    assert added[-1].content not in {sample.content for sample in data.samples[:-1]}
    # Mean and deviation are those of the people's labels.
    assert (data.label_mean, data.label_std) == (plain.label_mean, plain.label_std)


@pytest.mark.parametrize(("crop", "shorter_side"), [(48, None), (24, None), (32, 64)])
def test_another_preprocessing_is_refused(make_recipe, rows, tmp_path, crop, shorter_side):
    table = written(tmp_path / "p.csv", pseudo_rows(rows), crop, shorter_side)
    with pytest.raises(RecipeError, match=r"p\.csv were made with .*trains with"):
        load_data(make_recipe(), pseudo_labels=[table])


def test_a_teachers_crops_are_of_its_first_size_whatever_follows(make_recipe, rows, tmp_path):
    table = written(tmp_path / "p.csv", pseudo_rows(rows), 32, 64)
    recipe = make_recipe(network__shorter_side=64, network__extra_scales=[40])
    assert load_data(recipe, pseudo_labels=[table]).samples[-1].place == (1, 2)


def test_pseudo_labels_of_images_that_are_not_there_are_refused(make_recipe, tmp_path):
    table = written(tmp_path / "p.csv", pseudo_rows([{"name": "gone.jpg", "content": "g"}]))
    with pytest.raises(QFMError, match=r"names of .*p\.csv match no file .*gone\.jpg"):
        load_data(make_recipe(), pseudo_labels=[table])


def test_the_split_is_one_that_can_be_read_again(make_recipe):
    split = load_data(make_recipe()).split
    assert Split.from_text(split.to_text()) == split


# Unlabeled images


def test_unlabeled_images_come_last_and_leave_the_rest_as_it_was(
    make_recipe, rows, tmp_path, unlabeled_folder
):
    recipe = make_recipe(train__crops_per_image=2)
    names = load_data(recipe).train.names
    known = [row for row in rows if row["name"] in names]
    table = written(tmp_path / "pseudo.csv", pseudo_rows(known))
    plain = load_data(recipe, pseudo_labels=[table])
    known = rows[0]["content"]
    unlabeled = [
        UnlabeledImage(unlabeled_folder / "unlabeled01.jpg", "new", 41.5),
        UnlabeledImage(unlabeled_folder / "unlabeled02.jpg", known, 200.0),
    ]
    data = load_data(recipe, unlabeled, [table])
    assert data.supervised == plain.supervised == len(plain.samples) == 24 * 3
    assert data.samples[: data.supervised] == plain.samples
    assert all(sample.supervised for sample in plain.samples)
    added = data.samples[data.supervised :]
    assert [(s.path, s.label, s.supervised, s.place) for s in added] == [
        (image.path, image.score, False, None) for image in unlabeled
    ]
    ids = {sample.content for sample in plain.samples}
    assert added[0].content not in ids
    content_of = {sample.path.name: sample.content for sample in plain.samples}
    assert added[1].content == content_of.get(rows[0]["name"], len(ids) + 1)
    # People's labels decide the scale and the splits.
    assert (data.label_mean, data.label_std) == (plain.label_mean, plain.label_std)
    assert data.split == plain.split


def test_reference_images_are_neither_learned_from_nor_evaluated(make_recipe):
    plain = load_data(make_recipe())
    data = load_data(make_recipe(data__reference=0.25))
    kept = set(data.reference.names)
    assert len(kept) == 8  # two of six contents, whole
    assert kept | set(data.train.names) == set(plain.train.names)
    assert not set(data.reference.contents) & set(data.train.contents)
    assert data.split.sha256 == plain.split.sha256
    assert not kept & {sample.path.name for sample in data.samples}
    assert plain.reference is None
    half = load_data(make_recipe(data__reference=0.25, data__train_share=0.5))
    assert set(half.train.names) < set(data.train.names)
    assert half.reference.names == data.reference.names


def test_good_photos_are_learned_from_degraded_too(make_recipe, rows, tmp_path):
    cells = tmp_path / "cells.csv"
    cells.touch()
    labels = sorted(float(row["mos"]) for row in rows)
    good = labels[len(labels) // 2]
    unlabeled = [UnlabeledImage(tmp_path / f"{i}.jpg", f"u{i}", good + i - 1) for i in range(3)]
    recipe = make_recipe(augment__cells=str(cells), augment__good=good, train__crops_per_image=2)
    data = load_data(recipe, unlabeled)
    people = [s for s in data.samples if s.supervised and not s.degraded]
    copies = [s for s in data.samples if s.supervised and s.degraded]
    assert data.supervised == len(people) + len(copies)
    assert len(people) == 2 * 24
    # Each good photo once, with its label and content, compared only with other copies.
    assert {s.path for s in copies} == {s.path for s in people if s.label >= good}
    assert len(copies) == len({s.path for s in copies})
    assert {s.content for s in copies} <= {s.content for s in people}
    assert {s.group for s in copies}.isdisjoint({s.group for s in people})
    taught = data.samples[data.supervised :]
    assert [s.degraded for s in taught] == [False, False, False, True, True]
    assert [s.label for s in taught[3:]] == [good, good + 1]
    assert taught[3].group == copies[0].group != taught[0].group
    assert data.pairs == 0
    # Pairs follow all other labelled samples.
    options = {"augment__cells": str(cells), "augment__good": good, "augment__pairs": 2}
    paired = load_data(make_recipe(**options, train__crops_per_image=2), unlabeled)
    assert paired.samples[: paired.supervised] == people
    assert (paired.pairs, paired.unlabeled) == (len(copies), len(taught))
    behind = paired.samples[paired.supervised :]
    assert behind[: paired.pairs] == [replace(one, paired=True) for one in copies]
    assert behind[paired.pairs :] == taught
    with pytest.raises(TableError, match=r"augment\.pairs has no effect: no training image of"):
        load_data(make_recipe(**options | {"augment__good": labels[-1] + 1}))


def test_a_teacher_that_scores_crops_may_score_those_of_rated_photos(make_recipe, tmp_path):
    cells = tmp_path / "cells.csv"
    cells.touch()
    unlabeled = [UnlabeledImage(tmp_path / f"{i}.jpg", f"u{i}", 1e9) for i in range(3)]
    found = {}
    for name, options in (("images", {}), ("crops", {"distillation__per_step": True})):
        if options:
            options |= {"distillation__unlabeled": "labelled.csv", "distillation__with_rated": True}
        data = load_data(
            make_recipe(method__kind="qfm", augment__cells=str(cells), **options), unlabeled
        )
        people = [s for s in data.samples[: data.supervised] if not s.degraded]
        found[name] = data.samples[data.supervised :]
    assert [s.degraded for s in found["images"]] == [False] * 3 + [True] * 3
    taught = found["crops"]  # teachers per step get no degraded copies
    assert not any(s.degraded or s.supervised for s in taught)
    assert [s.path for s in taught[:3]] == [s.path for s in found["images"][:3]]
    assert {(s.path, s.content) for s in taught[3:]} == {(s.path, s.content) for s in people}
    assert {s.group for s in taught} == {taught[0].group}
    assert taught[0].group not in {s.group for s in people}


def test_photos_are_compared_within_their_subset(make_recipe, rows, other_labels):
    named = [{**row, "subset": "ab"[i % 2]} for i, row in enumerate(rows)]
    data = load_data(make_recipe(**other_labels(named, data__group="subset")))
    subset_of = {row["name"]: row["subset"] for row in named}
    groups = {(subset_of[sample.path.name], sample.group) for sample in data.samples}
    assert groups == {("a", 0), ("b", 1)}
