"""`qfm info`: describes a model from its card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from qfm_iqm.cli.options import Model

if TYPE_CHECKING:
    from qfm_iqm.model.card import ModelCard


def info(model: Model = "default") -> None:
    """Describe a model: size, labels, training, license, reference statistics, hash."""
    from qfm_iqm.model.card import read_card
    from qfm_iqm.model.locate import CARD_FILE, find_model

    folder = find_model(model)
    for name, value in _facts(read_card(folder / CARD_FILE), folder):
        typer.echo(f"{name:20}{value}")


def _facts(card: ModelCard, folder: Path) -> Iterator[tuple[str, str]]:
    """Name and value of each line to print."""
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    training, label, statistics = card.training, card.label, card.reference_statistics
    yield "name", card.name
    yield (
        "size",
        f"{size / 1e6:.1f} MB, {card.network.backbone}"
        + (f" on top of the public weights {card.base.name}" if card.base else ""),
    )
    ends = "" if label.span is None else f", {label.minimum:g} to {label.maximum:g}"
    better = "higher" if label.higher_is_better else "lower"
    yield "labels", f"{label.name}{ends}, {better} is better"
    images = ", ".join(f"{n} {split}" for split, n in training.get("images", {}).items())
    yield "trained on", f"{training.get('data') or 'not recorded'}" + f" ({images})" * bool(images)
    method = training.get("recipe", {}).get("method", {}).get("kind", "not recorded")
    yield "method", {"baseline": "baseline (without QFM)", "qfm": "QFM"}.get(method, method)
    yield "license", card.license or "not recorded"
    for row in card.results:
        if row.metric == "srcc" and row.subset in ("whole", "subset_mean"):
            interval = f"{row.ci_low:.3f} to {row.ci_high:.3f}"
            yield f"SRCC, {row.subset}", f"{row.value:.3f} ({interval}), {row.data}"
    if statistics is None:
        yield "reference", "no reference statistics"
    else:
        yield "reference", f"{statistics.images} photos: {statistics.population}"
        if statistics.interval is not None:
            shown = label.show_interval(statistics.interval)
            yield "interval", f"{shown}, for {statistics.interval.level:.0%} of photos"
        if statistics.ood_detector is not None:
            yield "out of distribution", f"{statistics.ood_detector.false_alarms:.1%} false alarms"
    if card.calibration is not None:
        yield "calibrated", card.calibration.kind
    yield "SHA-256", card.weights_sha256
