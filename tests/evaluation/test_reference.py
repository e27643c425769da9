"""Reference statistics from held-out photos: small images with known labels."""

import numpy as np
import pytest
from PIL import Image

from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError
from qfm_iqm.evaluation.reference import (
    find_interval,
    find_reference_statistics,
    fit_ood_detector,
    halves,
    statistics_of,
)
from qfm_iqm.image.pixel_features import NAMES
from qfm_iqm.model.folder import load_model


@pytest.fixture(scope="module")
def held_out(tmp_path_factory, tiny_model_folder):
    """120 small images whose labels differ from the model's scores by at most 10."""
    root = tmp_path_factory.mktemp("held_out")
    draw = np.random.default_rng(7)
    model = load_model(tiny_model_folder)
    names, labels = [], []
    for number in range(120):
        cells = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(cells).resize((52, 50), Image.Resampling.BICUBIC)
        names.append(f"{number:03d}.png")
        image.save(root / names[-1])
        labels.append(model.score(root / names[-1]).value + draw.uniform(-10, 10))
    return RatedTable(tuple(names), np.array(labels)), root


def test_all_three_are_found(held_out, tiny_model_folder):
    table, root = held_out
    model = load_model(tiny_model_folder)
    reference = find_reference_statistics(model, table, root, seen=table, population="squares")
    assert (reference.population, reference.images) == ("squares", 120)
    scores = [model.score(root / name).value for name in table.names]
    assert reference.quantiles[50] == pytest.approx(np.median(scores), abs=1e-3)
    assert reference.quantiles[0] == pytest.approx(min(scores), abs=1e-3)
    assert 7.5 < reference.interval.half_width < 11
    assert reference.ood_detector.names == NAMES
    assert reference.ood_detector.images == 120 + 6
    model.card.reference_statistics = reference
    found = [model.score(root / name) for name in table.names]
    held = np.array(
        [one.mos_low <= mos <= one.mos_high for one, mos in zip(found, table.mos, strict=True)]
    )
    setting, checking = halves(table)
    assert held.mean() >= 0.9
    assert reference.interval.images == 120
    alarms = np.array([one.out_of_distribution for one in found])
    assert alarms[setting].sum() <= 1  # the limit is the farthest of 60, where rounding decides
    assert reference.ood_detector.false_alarms == alarms[checking].mean()
    assert reference.ood_detector.checked == 60
    assert alarms.mean() < 0.1
    assert 45 < np.mean([one.percentile for one in found]) < 55
    assert model.score(Image.effect_noise((60, 60), 80).convert("RGB")).out_of_distribution


def test_what_photos_are_like_is_learned_from_those_seen(held_out, tiny_model_folder):
    table, root = held_out
    seen, rest = table.select(np.arange(110)), table.select(np.arange(10, 120))
    model = load_model(tiny_model_folder)
    detector = find_reference_statistics(model, rest, root, seen=seen, population="").ood_detector
    assert (detector.images, detector.checked) == (110 + 6, 55)
    model.card.reference_statistics = find_reference_statistics(
        model, rest, root, seen=seen, population=""
    )
    alarms = [model.score(rest.paths(root)[place]).out_of_distribution for place in halves(rest)[1]]
    assert detector.false_alarms == np.mean(alarms)


def test_halves_share_no_content_and_do_not_depend_on_the_order_of_rows():
    names = tuple(f"{number}.png" for number in range(100))
    contents = tuple(f"scene {number // 3}" for number in range(100))
    table = RatedTable(names, np.zeros(100), contents)
    one, other = ({table.names[place] for place in half} for half in halves(table))
    assert one | other == set(names)
    assert not one & other
    assert 50 <= len(one) <= 52
    scenes = [{contents[names.index(name)] for name in half} for half in (one, other)]
    assert not scenes[0] & scenes[1]
    turned = table.select(np.arange(100)[::-1])
    assert {turned.names[place] for place in halves(turned)[0]} == one


def test_the_coverage_of_an_interval_is_measured_on_photos_that_had_no_part_in_it():
    scores = np.zeros(30)
    mos = np.r_[np.full(20, 1.0), np.full(10, 9.0)]
    found = find_interval(mos, scores, (np.arange(20), np.arange(20, 30)), 0.9)
    assert found.coverage == 20 / 30  # the wider interval of the ten holds the twenty
    assert (found.half_widths, found.images) == ((9.0,), 30)


def test_too_few_photos_are_refused(held_out, tiny_model_folder):
    table, root = held_out
    with pytest.raises(TableError, match="at least 100 held-out photos, and table has 99"):
        find_reference_statistics(
            load_model(tiny_model_folder),
            table.select(np.arange(99)),
            root,
            seen=table,
            population="",
        )


def test_the_limit_leaves_the_stated_share_outside():
    draw = np.random.default_rng(0)
    mixing = draw.normal(size=(15, 15))
    known, setting, further = (draw.normal(size=(n, 15)) @ mixing for n in (2000, 1000, 4000))
    detector = fit_ood_detector(known, setting, further)
    at_most = [np.mean([detector.distance(row) > detector.limit for row in rows])
               for rows in (setting, further)]  # fmt: skip
    assert 0.01 <= at_most[0] <= 0.015
    assert detector.false_alarms == at_most[1]
    assert 0.008 < at_most[1] < 0.025
    assert (detector.images, detector.checked) == (2000, 4000)
    far = fit_ood_detector(known, setting, further + 9 * known.std(0))
    assert (far.limit, far.false_alarms) == (detector.limit, 1)
    assert detector.distance(known.mean(0) + 9 * known.std(0)) > detector.limit


def test_statistics_come_in_order(held_out, tiny_model_folder):
    table, root = held_out
    preprocessing = load_model(tiny_model_folder).card.preprocessing
    paths = table.paths(root)[:9]
    found = list(statistics_of(paths, preprocessing, soft_from=9))
    again = list(statistics_of(paths[::-1], preprocessing, soft_from=9))[::-1]
    assert np.array_equal(found, again)
    soft = list(statistics_of(paths, preprocessing, soft_from=2))
    assert [len(one) for one in soft] == [1, 1, 2, *[1] * 6]
    assert np.array_equal(soft[2][0], found[2][0])
    gradient = NAMES.index("gradient")
    assert soft[2][1][gradient] < soft[2][0][gradient]
