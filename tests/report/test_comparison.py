import json

import pytest
from scipy.stats import rankdata

from qfm_iqm.errors import TableError
from qfm_iqm.model.card import LabelUnits
from qfm_iqm.report.comparison import comparison_page
from qfm_iqm.report.scores import Place
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.table import ScoreTable, table_of


def table(scores, model="m", folder=""):
    rows = [
        ScoreRow(
            path=folder + name,
            score=score,
            crop_std=0.0,
            width=1,
            height=1,
            status="ok" if score else "error",
            error="" if score else "no",
            model=model,
        )
        for name, score in scores.items()
    ]
    return table_of(rows, f"{folder}{model}")


def inlined(page):
    block = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    return json.loads(block)


@pytest.fixture
def place(tmp_path, photo_folder):
    return Place(tmp_path / "r.html", photo_folder)


A = {
    "photo_00.jpg": 10.0,
    "photo_01.jpg": 20.0,
    "photo_02.jpg": 30.0,
    "photo_03.jpg": None,
    "x": 1.0,
}
B = {"photo_01.jpg": 26.0, "photo_00.jpg": 9.0, "photo_02.jpg": 30.0, "photo_03.jpg": 5.0, "y": 2.0}


def test_one_model_is_compared_in_its_units(place):
    data = inlined(comparison_page(table(A), table(B), place, LabelUnits(), count=2))
    assert data["pairs"] == [[0, 1], [1, 0], [2, 2]]
    assert data["changes"] == [-1, 6, 0]
    assert (data["win_rate"]["wins"], data["win_rate"]["losses"], data["win_rate"]["n"]) == (
        1,
        1,
        3,
    )
    assert data["unscored"] == [[3, 3]]
    assert data["only"] == [[4], [4]]
    assert data["ranks"] is None
    assert data["same_files"]
    assert [sorted(side) for side in data["thumbnails"]] == [["0", "1"], ["0", "1"]]
    assert data["thumbnails"][0]["1"] == data["thumbnails"][1]["0"]  # the same file


def test_two_models_are_compared_by_rank(place):
    first = {name: score for name, score in A.items() if score}
    second = dict(zip(first, (4.0, 3.0, 2.0, 1.0), strict=True))
    page = comparison_page(table(first), table(second, "other"), place, LabelUnits(), count=0)
    data = inlined(page)
    ranks = [100 * (rankdata(scores) - 1) / 3 for scores in (list(first.values()), [4, 3, 2, 1])]
    assert data["ranks"] == [pytest.approx(side, abs=1e-3) for side in ranks]
    assert data["changes"] == pytest.approx(ranks[1] - ranks[0], abs=1e-5)


def test_two_models_win_by_rank_and_not_by_scale(place):
    first = dict(zip("abcd", (10.0, 20.0, 30.0, 40.0), strict=True))
    second = dict(zip("abcd", (80.0, 70.0, 90.0, 95.0), strict=True))  # all higher, a and b swapped
    for units in (LabelUnits(), LabelUnits(higher_is_better=False)):
        page = comparison_page(table(first), table(second, "other"), place, units, count=0)
        result = inlined(page)["win_rate"]
        assert (result["wins"], result["losses"], result["n"]) == (1, 1, 4)


def test_lower_may_be_better(place):
    units = LabelUnits(higher_is_better=False)
    data = inlined(comparison_page(table(A), table(B), place, units, count=0))
    assert data["changes"] == [1, -6, 0]
    assert (data["win_rate"]["wins"], data["win_rate"]["losses"]) == (1, 1)


def test_nothing_in_common_is_a_mistake(place):
    with pytest.raises(TableError, match="have 0 scored images in common"):
        comparison_page(table({"a": 1.0, "b": 2.0}), table({"c": 1.0}), place, LabelUnits())
    once = table({"a": 1.0, "b": 2.0})
    twice = ScoreTable("two.csv", {name: each * 2 for name, each in once.columns.items()})
    with pytest.raises(TableError, match=r"0 scored images .*: 2 paths occur .* in two\.csv\."):
        comparison_page(once, twice, place, LabelUnits())
