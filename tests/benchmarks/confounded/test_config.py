"""Errors in the recipe name their key; the packaged recipe is accepted."""

from pathlib import Path

import pytest

from confounded.config import read_confounding
from confounded.rules import VARIANTS
from qfm_iqm.errors import RecipeError

SHIPPED = Path(__file__).parents[3] / "recipes/confounded.toml"


def test_the_recipe_that_ships_is_the_registered_one():
    recipe = read_confounding(SHIPPED, [])
    assert recipe.verdict == "rho90"
    registered = {s.rho: s.seeds for s in recipe.settings.values() if s.registered}
    assert registered == {
        rho: tuple(range(10 if rho == 0.9 else 5)) for rho in (0.5, 0.8, 0.9, 0.95, 1.0)
    }
    assert len(recipe.trials) == 8
    text = (SHIPPED.parents[1] / "docs/confounding.md").read_text("utf-8")
    assert all(f"`{variant}`" in text for variant in VARIANTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("mild='much'", "mild = 'much' is refused"),
        ("milld=3", "unknown key 'milld' .did you mean 'mild'"),
        ("settings.rho90.variants=['qmf']", "no variant 'qmf'; choose none"),
        ("settings.human.rho=0.5", "degraded photos need rho"),
        ("verdict='rho9'", "verdict names no setting: choose rho90"),
        ("photos=11", "even number"),
        ("test=8", "leave no photos"),
    ],
)
def test_mistakes_are_told(recipe_file, change, message):
    with pytest.raises(RecipeError, match=message):
        read_confounding(recipe_file, [change])
