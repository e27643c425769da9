import csv
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfm_iqm.errors import TableError
from qfm_iqm.image.distortions import distort
from qfm_iqm.training.degradations import CLEAN, lowered, read_cells

CELLS = {  # made up, in KADID-10k's format
    "gaussian blur": [(0.1, 4.6), (0.5, 4.4), (1, 3.0), (2, 2.0), (5, 1.2)],
    "jpeg": [(43, 4.3), (36, 4.2), (24, 3.9), (7, 1.9), (4, 1.3)],
    "mean shift": [(0.15, 4.2), (0.08, 4.5), (0, 4.6), (-0.08, 4.4), (-0.15, 3.9)],
    "color saturation 1": [(0.4, 2.7), (0.2, 2.3), (0.1, 2.2), (0, 2.2), (-0.4, 2.0)],
    "contrast change": [(0.3, 3.4), (0.15, 3.9), (0, 4.3), (-0.4, 4.1), (-0.6, 3.3)],
    "jitter": [(0.05, 4.4), (0.1, 4.1), (0.2, 3.2), (0.5, 1.8), (1, 1.3)],
}


def written(path, cells=CELLS, header=("type", "name", "level", "parameter", "dmos_mean")):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number, (name, levels) in enumerate(cells.items()):
            for level, (parameter, opinion) in enumerate(levels, 1):
                writer.writerow((number, name, level, parameter, opinion))
    return path


@pytest.fixture
def cells(tmp_path):
    return read_cells(written(tmp_path / "cells.csv"))


def test_kinds_that_are_photographic_are_read_and_webp_and_avif_added(cells):
    assert set(cells.levels) == {
        "gaussian blur", "jpeg", "mean shift", "color saturation 1", "contrast change", "webp",
        "avif",
    }  # fmt: skip
    assert cells.levels["jpeg"][-1] == (4, 1.3)
    # No change means no loss, except for color, where zero is gray.
    assert [cells.levels[k][2] for k in ("mean shift", "contrast change")] == [(0, CLEAN)] * 2
    assert cells.levels["contrast change"][1] == (0.15, 3.9)
    assert (0, 2.2) in cells.levels["color saturation 1"]
    assert [opinion for _, opinion in cells.levels["webp"]] == [4.3, 4.2, 3.9, 1.9, 1.3]


def test_what_is_drawn_lies_between_the_levels_around_it_and_can_be_applied(cells):
    draw, image = np.random.default_rng(0), np.zeros((16, 16, 3), np.uint8)
    seen = set()
    for _ in range(400):
        found = cells.draw(draw)
        seen.add(found.kind)
        opinion = 1 + found.kept * (CLEAN - 1)
        levels = cells.levels[found.kind]
        fits = [
            min(a, b) - 1e-6 <= found.strength <= max(a, b) + 1e-6
            and min(p, q) - 1e-6 <= opinion <= max(p, q) + 1e-6
            for (a, p), (b, q) in itertools.pairwise(levels)
        ]
        assert any(fits)
        if found.kind in ("jpeg", "webp", "avif"):
            assert found.strength == round(found.strength)
        distort(image, found.kind, found.strength)
    assert seen == set(cells.levels)


def test_the_same_seed_draws_the_same(cells):
    first, second = ([cells.draw(np.random.default_rng(3)) for _ in range(5)] for _ in range(2))
    assert first == second


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_label_falls_from_its_own_to_the_floor_and_never_rises(own, floor, kept):
    found = lowered(own, kept, floor)
    assert found <= own + 1e-12
    assert found >= min(own, floor) - 1e-12
    assert lowered(own, 1, floor) == pytest.approx(own)
    assert lowered(own, 0, floor) == pytest.approx(min(own, floor))


def test_held_out_kinds_are_not_drawn(cells):
    left = cells.without(("jpeg", "mean shift"))
    assert set(left.levels) == set(cells.levels) - {"jpeg", "mean shift"}
    with pytest.raises(TableError, match="no opinions of 'fog'"):
        cells.without(("fog",))


@pytest.mark.parametrize(("cells", "message"), [
    ({"jitter": CELLS["jitter"]}, "no opinion of any of"),
    ({"jpeg": [(43, 4.3)]}, "too few opinions of 'jpeg'"),
    ({"jpeg": [(43, 4.3), (36, 70)]}, "too few opinions of 'jpeg'"),
    ({"jpeg": [(43, 4.3), ("high", 4)]}, "not a table of mean opinions"),
])  # fmt: skip
def test_tables_that_say_too_little_are_refused(tmp_path, cells, message):
    with pytest.raises(TableError, match=message):
        read_cells(written(tmp_path / "cells.csv", cells))


def test_other_tables_and_none_are_refused(tmp_path):
    with pytest.raises(TableError, match="cannot be read: No such file"):
        read_cells(tmp_path / "none.csv")
    with pytest.raises(TableError, match="has no column parameter, dmos_mean"):
        read_cells(written(tmp_path / "x.csv", header=("type", "name", "level", "p", "mos")))
