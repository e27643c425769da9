"""Writes docs/default_model.md: the default model's card as a page.

    python docs/model_card.py

`qfm train recipes/default.toml` writes the same page at the end of a build.
"""

from pathlib import Path

from qfm_iqm.model.card_page import card_page
from qfm_iqm.model.folder import load_card

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"


def default_page() -> str:
    """The page, from the card and the measured tables."""
    return card_page(
        load_card("default"),
        degradation=RESULTS / "degradation.csv",
        size_and_frame=RESULTS / "size_and_frame.csv",
        causes=RESULTS / "causes.csv",
        speed=RESULTS / "speed.csv",
        notes=DOCS.parent / "recipes" / "default_notes.md",
        beside=DOCS,
    )


if __name__ == "__main__":
    (DOCS / "default_model.md").write_text(default_page(), "utf-8")
