"""The model card as a Markdown page, generated from `card.json` and tables of results.

Every figure comes from the card or a results file, and the page says what was not measured. Only
`notes` are free text.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qfm_iqm.errors import TableError
from qfm_iqm.model.card import ModelCard
from qfm_iqm.text_tables import markdown_row, read_dicts

SUBSETS = {"whole": "all photos", "subset_mean": "mean over subsets"}
METRICS = ("srcc", "plcc", "krcc", "rmse")


def card_page(
    card: ModelCard,
    *,
    degradation: Path | None = None,
    size_and_frame: Path | None = None,
    causes: Path | None = None,
    speed: Path | None = None,
    notes: Path | None = None,
    beside: Path | None = None,
    missing: bool = True,
) -> str:
    """A model card as Markdown.

    Args:
        card: the model card.
        degradation: results of `benchmarks/degradation.py`; an SVG figure next to it is shown.
        size_and_frame: results of `benchmarks/size_and_frame.py`.
        causes: results of `benchmarks/causes.py`; None leaves that section out.
        speed: results of `benchmarks/speed.py`.
        notes: Markdown file that is inserted unchanged before the recipe.
        beside: folder of the page; the link to the figure is relative to it.
        missing: say what was not measured instead of leaving it out.

    Raises:
        TableError: a file cannot be read, or results lack columns.
    """
    measured = _degradation(card, degradation, beside or Path())
    parts: Sequence[tuple[str, Iterable[str]]] = (
        ("", _head(card)),
        ("What a score means", _scale(card)),
        ("Accuracy", _accuracy(card)),
        ("Degradation", measured if degradation or missing else ()),
        ("Training", _training(card)),
        ("Limits", _limits(card, size_and_frame, missing)),
        ("Causes", _causes(causes) if causes else ()),
        ("Speed", _speed(card, speed) if speed or missing else ()),
        ("", [_text(notes).strip()] if notes else ()),
        ("Recipe", _recipe(card) if "recipe" in card.training else ()),  # last: it is long
    )
    sections = [
        "\n".join((f"## {title}", "", *lines) if title else lines)
        for title, part in parts
        if (lines := list(part))
    ]
    return "\n\n".join(sections) + "\n"


def _head(card: ModelCard) -> Iterator[str]:
    yield f"# {card.name}"
    yield ""
    yield card.description or "No description."
    yield ""
    side, extra = card.preprocessing.shorter_side, card.preprocessing.extra_scales
    size = f" at a shorter side of at most {side}" if side else " at its own size"
    if extra:
        size += f", and also at {' and '.join(map(str, extra))}"
    crop, longest = card.network.crop, card.preprocessing.longest
    sides = f"of {crop}" if longest == crop else f"with sides of {crop} to {longest}"
    yield (
        f"* **Network**: {card.network.backbone} and the attention-panel decoder; crops {sides} "
        f"pixels that cover the photo{size}."
    )
    if card.base is not None:
        yield f"* **Public weights**: on top of timm's `{card.base.name}`, checked by hash."
    yield f"* **License**: {card.license or 'not stated'}"
    yield f"* **Weights**: SHA-256 `{card.weights_sha256}`, written by qfm-iqm {card.version}"


def _scale(card: ModelCard) -> Iterator[str]:
    label, reference = card.label, card.reference_statistics
    if label.worst_and_best is None:
        yield f"Scores are in the label's units ({label.name}), which have no fixed ends."
    else:
        worst, best = label.worst_and_best
        yield f"0 (worst) to 100 (best): {label.name} from {worst:g} to {best:g}, mapped linearly."
    if card.calibration is not None:
        yield f"Calibrated to ratings by a curve ({card.calibration.kind})."
    if reference is None:
        yield "This card has no percentile or interval: [reference] in a recipe computes them."
        return
    yield ""
    middle = [
        reference.quantiles[round(q * (len(reference.quantiles) - 1))] for q in (0.1, 0.5, 0.9)
    ]
    low, mid, high = sorted(label.show(value) for value in middle)
    yield (
        f"* **Percentile**: among {reference.images} photos: {reference.population}. "
        f"A tenth scores below {low:.0f}, half below {mid:.0f}, a tenth above {high:.0f}."
    )
    interval, detector = reference.interval, reference.ood_detector
    if interval is not None:
        held = interval.coverage
        yield (
            f"* **Interval**: the score {label.show_interval(interval)} holds the mean opinion for "
            f"{_percent(interval.level, 0)} of photos like these (conformal, from "
            f"{interval.images} held-out photos)."
            + ("" if held is None else f" Cross-validated, it held {_percent(held)}.")
        )
    if detector is not None:
        counted = f"{detector.checked} held-out photos that were not used to set the limit"
        yield (
            "* **Out of distribution**: pixel statistics unlike those of training photos, or a "
            f"side below {card.preprocessing.crop} pixels; {_percent(detector.false_alarms)} of "
            f"{counted if detector.checked else 'held-out photos'} are marked."
        )


def _accuracy(card: ModelCard) -> Iterator[str]:
    found = {(row.subset, row.metric): row for row in card.results}
    metrics = [metric for metric in METRICS if any(key[1] == metric for key in found)]
    if not metrics:
        yield "Not measured."
        return
    data = dict.fromkeys(row.data for row in card.results)
    yield f"{'; '.join(data)}. Value and 95 % interval."
    yield ""
    yield from _table(
        ["photos", "number", *(metric.upper() for metric in metrics)],
        (
            [
                SUBSETS.get(subset, subset),
                str(max(row.images for key, row in found.items() if key[0] == subset)),
                *(_value(found.get((subset, metric))) for metric in metrics),
            ]
            for subset in dict.fromkeys(row.subset for row in card.results)
        ),
    )


def _value(row: Any) -> str:
    return "–" if row is None else f"{row.value:.3f} ({row.ci_low:.3f}–{row.ci_high:.3f})"


def _degradation(card: ModelCard, results: Path | None, beside: Path) -> Iterator[str]:
    columns = ("model", "photos", "n", "degradation", "figure", "value")
    rows = _rows_of(card, results, *columns)
    if results is None or not rows:
        yield "Not measured (`benchmarks/degradation.py`)."
        return
    yield (
        "L-test: share of adjacent levels in the right order. D-test: how well clean photos are "
        "distinguished from degraded ones. Changes: by how much the score changes, in points of "
        "100."
    )
    yield ""
    figures = dict.fromkeys(r["figure"] for r in rows if not r["figure"].startswith("mean score"))
    by_place: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        place = (f"{row['photos']} ({row['n']})", row["degradation"])
        by_place.setdefault(place, {})[row["figure"]] = row["value"]
    yield from _table(
        ["photos", "degradation", *figures],
        (
            [*place, *(_rounded(values.get(figure)) for figure in figures)]
            for place, values in by_place.items()
        ),
    )
    drawn = results.with_suffix(".svg")
    if drawn.is_file():
        link = Path(os.path.relpath(drawn, beside)).as_posix()
        yield ""
        yield f"![Mean score by level of degradation]({link})"


def _rounded(value: str | None) -> str:
    return "–" if value is None else f"{float(value):.3f}"


def _training(card: ModelCard) -> Iterator[str]:
    told = card.training
    yield f"* **Data**: {told.get('data') or 'not stated'}"
    yield f"* **Terms**: {told.get('terms') or 'not stated'}"
    if "images" in told:
        counts = ", ".join(f"{split} {count}" for split, count in told["images"].items())
        yield f"* **Photos**: {counts} (split SHA-256 `{told.get('split_sha256', '')[:16]}…`)"
    if "backbone_weights" in told:
        yield f"* **First weights of the backbone**: {told['backbone_weights']}"
    if "started_from" in told:
        yield f"* **Training started from**: {told['started_from']}"


def _recipe(card: ModelCard) -> Iterator[str]:
    recipe = card.training["recipe"]
    yield "```json"
    yield json.dumps({key: recipe[key] for key in recipe if key != "model"}, indent=1)
    yield "```"


def _limits(card: ModelCard, changes: Path | None, missing: bool) -> Iterator[str]:
    data = card.training.get("data") or "its training photos"
    yield f"* Scores estimate the opinion of the raters of {data} only."
    reference = card.reference_statistics
    knows = reference is not None and reference.ood_detector is not None
    but = (
        ", and `out_of_distribution` marks them only where their pixels differ from photos"
        if knows
        else ""
    )
    yield (
        "* It was trained on photos. Text pages, charts, drawings, medical or satellite images "
        f"are not photos; their scores mean nothing{but}."
    )
    if card.preprocessing.shorter_side:
        yield (
            "* The model sees photos at a shorter side of "
            f"{card.preprocessing.shorter_side} pixels: faults that vanish when a photo is reduced "
            "to that size go unnoticed."
        )
    yield (
        f"* It was not trained on images with a side below {card.preprocessing.crop} pixels: "
        "`out_of_distribution` marks each of these."
    )
    if changes or missing:
        yield from _size_and_frame(card, changes)
    groups = [row for row in card.results if row.metric == "srcc" and row.subset not in SUBSETS]
    if len(groups) > 1:
        worst = min(groups, key=lambda row: row.value)
        yield f"* It ranks worst within the subset {worst.subset}: SRCC {worst.value:.2f}."


def _size_and_frame(card: ModelCard, results: Path | None) -> Iterator[str]:
    """How much a smaller size or a frame raises scores, although it improves no photo."""
    columns = ("model", "photos", "n", "change", "figure", "value")
    rows = _rows_of(card, results, *columns)
    if not rows:
        yield (
            "* Not measured (`benchmarks/size_and_frame.py`): how much the score of a smaller "
            "copy, or of a photo in a frame, is above that of the photo."
        )
        return
    for kind, what in (("size", "A smaller copy"), ("frame", "A photo in a plain frame")):
        changed = [row for row in rows if row["change"].startswith(kind)]
        means = [row for row in changed if row["figure"] == "mean difference"]
        clean = [row for row in means if row["photos"] == "clean"]
        mean = max(clean, key=lambda row: float(row["value"]))
        most = max(
            (row for row in changed if row["figure"] == "largest difference"),
            key=lambda row: float(row["value"]),
        )
        clean_or_not = "a clean photo"
        if most["photos"] != "clean":
            clean_or_not = f"a photo degraded by {most['photos']}"
        yield (
            f"* {what} may score higher than the photo itself: by {float(mean['value']):.1f} "
            f"points on average over {mean['n']} photos ({_change(mean)}), and by up to "
            f"{float(most['value']):.1f} for {clean_or_not} ({_change(most)})."
        )


def _change(row: Mapping[str, str]) -> str:
    """A change in words: "white frame, 6 %" for "frame white, 6 %"."""
    kind, _, rest = row["change"].partition(" ")
    which, comma, how = rest.partition(",")
    return f"{which} {kind}{comma}{how}"


def _causes(results: Path) -> Iterator[str]:
    """Accuracy of the causes reported with scores; all models share the causes network."""
    rows = read_dicts(results, "photos", "generator", "cause", "level", "figure", "n", "value")
    found = {
        (row["generator"], row["cause"], row["level"], row["figure"]): row
        for row in rows
        if row["photos"] == "all"
    }
    unseen = "unseen generators"
    yield (
        "Share of photos whose main cause is named correctly (`benchmarks/causes.py`), by level of "
        "degradation, and the median error of severities in points, for faults made by generators "
        "that were not used in training. All models share one network of causes."
    )
    yield ""
    wanted = (("2", "right"), ("3-5", "right"), ("1-5", "error"))
    named = {key[1] for key in found if key[0] == unseen}
    yield from _table(
        ["cause", "level 2", "levels 3 to 5", "median error"],
        (
            [cause, *(f"{float(found[unseen, cause, *key]['value']):.3g}" for key in wanted)]
            for cause in sorted(named, key=lambda cause: (cause == "all", cause))
        ),
    )
    yield ""
    clean, two = found["clean", "none", "0", "right"], found["all", "two", "3-5", "both"]
    right, both = (_percent(float(row["value"])) for row in (clean, two))
    yield (
        f"{right} of {clean['n']} clean photos get no cause. Both causes are named in {both} of "
        f"{two['n']} copies with two faults."
    )


def _speed(card: ModelCard, results: Path | None) -> Iterator[str]:
    rows = _rows_of(card, results, "figure", "value", "model", "cores")
    if not rows:
        yield "Not measured (`benchmarks/speed.py`)."
        return
    head = ["figure", "value", "cores"]
    yield from _table(head, ([row[name].replace("_", " ") for name in head] for row in rows))


def _rows_of(card: ModelCard, results: Path | None, *columns: str) -> list[dict[str, str]]:
    """The model's rows of a results file; none without a file."""
    rows = read_dicts(results, *columns) if results else []
    return [row for row in rows if row["model"] == card.name]


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _table(head: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield markdown_row(head)
    yield f"|{'---|' * len(head)}"
    yield from map(markdown_row, rows)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise TableError(f"The file {path} cannot be read: {error.strerror}.") from error
