"""`qfm compare`: compares score tables of several methods on the same images, with tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qfm_iqm.cli.evaluate import say_left_out
from qfm_iqm.cli.options import LEAST_RESAMPLES, By, Label, LowerIsBetter, messages
from qfm_iqm.cli.showing import cell, print_table
from qfm_iqm.errors import counted
from qfm_iqm.files import check_distinct, check_output
from qfm_iqm.text_tables import write_csv

if TYPE_CHECKING:
    from qfm_iqm.metrics.evaluation import Evaluation
    from qfm_iqm.metrics.significance import Difference


def compare(
    scores: Annotated[list[Path], typer.Argument(help="Score tables: CSV, JSON lines or Parquet.")],
    labels: Annotated[
        Path | None, typer.Option(help="Table of labels. Default: the first score table's mos.")
    ] = None,
    column: Annotated[str, typer.Option(help="Column of the scores.")] = "score",
    label: Label = "mos",
    lower_is_better: LowerIsBetter = False,
    by: By = None,
    metric: Annotated[
        Literal["srcc", "plcc", "krcc"], typer.Option(help="What to compare.")
    ] = "srcc",
    test: Annotated[
        Literal["meng", "steiger"], typer.Option(help="Test of dependent correlations.")
    ] = "meng",
    bootstrap: Annotated[
        int, typer.Option(help="Resamples of the images.", min=LEAST_RESAMPLES)
    ] = 2000,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the differences to this CSV.")
    ] = None,
) -> None:
    """Compare methods in pairs: paired bootstrap and a test, with Holm's correction.

    A difference above 0 means that the first method agrees better with the labels, whatever the
    direction of labels and scores.
    """
    from qfm_iqm.evaluation.methods import side_by_side
    from qfm_iqm.metrics.evaluation import evaluate
    from qfm_iqm.metrics.significance import Difference, compare_methods
    from qfm_iqm.scoring.table import check_replaceable

    check_distinct({"--out": out}, [*scores, labels])
    if out is not None:
        check_output(out, ".csv")
        check_replaceable(out, Difference._fields)
    found = side_by_side(scores, labels, column=column, label=label)
    groups = None if by is None else found.table.group(by)
    mos, aligned, turned = found.aligned(higher_is_better=not lower_is_better)
    differences = compare_methods(aligned, mos, metric=metric, test=test, n_boot=bootstrap)
    evaluations = {
        name: evaluate(values, mos, groups=groups, n_boot=bootstrap, metrics=[metric])
        for name, values in aligned.items()
    }
    if out is not None:
        write_csv(out, Difference._fields, differences)
    _show_methods(evaluations, metric)
    _show_differences(differences, test)
    console = messages()
    say_left_out(found, console)
    for name, value in turned.items():
        console.print(
            f"{name} falls as quality rises (SRCC {value:.4f}): its scores are negated.",
            markup=False,
            soft_wrap=True,
        )
    console.print(
        f"{counted(len(found.table), 'image')}, {counted(len(differences), 'comparison')}."
    )


def _show_methods(evaluations: dict[str, Evaluation], metric: str) -> None:
    """Prints one row per subset and one column per method: the metric and its interval."""
    first = next(iter(evaluations.values()))
    lines = []
    for subset in dict.fromkeys(row.subset for row in first.rows):
        rows = [evaluation.row(subset, metric) for evaluation in evaluations.values()]
        lines.append((subset, str(rows[0].n), *map(cell, rows)))
    print_table((f"{metric} of", "images", *evaluations), lines)


def _show_differences(differences: list[Difference], test: str) -> None:
    """Prints one row per pair of methods."""
    lines = []
    for one in differences:
        tested = "-" if one.p_test is None else f"{one.p_test:.4f} ({one.p_test_holm:.4f})"
        lines.append((
            one.first,
            one.second,
            f"{one.difference:+.4f}",
            f"{one.ci_low:+.4f} to {one.ci_high:+.4f}",
            f"{one.p_bootstrap:.4f} ({one.p_bootstrap_holm:.4f})",
            tested,
        ))  # fmt: skip
    titles = ("first", "second", "difference", "95 %", "p bootstrap (Holm)", f"p {test} (Holm)")
    print_table(titles, lines)
