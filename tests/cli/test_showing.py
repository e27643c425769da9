"""How figures are printed."""

import pytest

from qfm_iqm.cli.showing import cell
from qfm_iqm.metrics.evaluation import Row


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.5, 0.75, ".500–.750"), (-0.25, 10.5, "-.250–10.500"), (20.045, 70.766, "20.045–70.766")],
)
def test_intervals_lose_only_a_leading_zero(low, high, shown):
    assert cell(Row("whole", "rmse", 100, 1.0, low, high)) == f"1.0000\n{shown}"
    assert cell(Row("whole", "rmse", 100, None, None, None)) == "-"
