"""`qfm gate`: passes or fails images by their scores; the exit code is for pipelines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qfm_iqm.causes.severity import CAUSES
from qfm_iqm.cli.jobs import files_of
from qfm_iqm.cli.options import (
    AllFiles,
    Device,
    MaxMegapixels,
    MaxMemory,
    Model,
    NoPairs,
    Raw,
    check_device,
    extra,
    messages,
    millions,
    parse_bytes,
    say,
    with_progress,
)
from qfm_iqm.errors import QFMError
from qfm_iqm.files import check_distinct, check_output, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from qfm_iqm.scoring.gate import Rule, Verdict

SHOWN = 20  # images listed on the terminal for each outcome


def gate(
    paths: Annotated[list[str], typer.Argument(help="Images, and folders of images.")],
    minimum: Annotated[
        float | None, typer.Option("--min", help="The score that an image must reach.")
    ] = None,
    maximum: Annotated[
        float | None,
        typer.Option("--max", help="The same for models whose scores are better when lower."),
    ] = None,
    review: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH", help="Scores that people should review: no failure."),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Earlier scores of the same images, by qfm score.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="How much worse than the baseline an image may be.", min=0)
    ] = None,
    max_cause: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CAUSE:POINTS",
            help="Points that a cause may cost an image, like compression:20. May be repeated.",
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="JUnit XML to write.")] = None,
    json: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
    model: Model = "default",
    all_files: AllFiles = False,
    no_pairs: NoPairs = False,
    raw: Raw = "preview",
    max_megapixels: MaxMegapixels = 250,
    max_memory: MaxMemory = None,
    device: Device = None,
) -> None:
    """Pass or fail images by their scores. Exit code 0: all pass, 1: some fail, 2: no score."""
    from qfm_iqm.report.gate_files import gate_json, junit_xml
    from qfm_iqm.scoring.gate import Rule, apply_rule, exit_code
    from qfm_iqm.scoring.runtimes.load import load_runtime
    from qfm_iqm.scoring.scorer import Scorer
    from qfm_iqm.scoring.table import read_scores

    console = messages()
    check_distinct({"--junit": junit, "--json": json}, [*paths, baseline])
    for path, ending, mark in (
        (junit, ".xml", 'name="qfm gate"'),
        (json, ".json", '"without_baseline"'),
    ):
        if path is not None:
            check_output(path, ending, mark=mark)
    if (baseline is None) != (max_drop is None):
        raise QFMError("--baseline and --max-drop belong together: give both or neither.")
    max_pixels = millions(max_megapixels, "--max-megapixels")
    memory = None if max_memory is None else parse_bytes(max_memory)
    check_device(device)
    with extra("runtimes", f"The runtime of '{model}'"):  # the same as in qfm score
        loaded = load_runtime(model, device=device)
    higher = loaded.card.label.shown.higher_is_better
    if (maximum if higher else minimum) is not None:
        right, wrong = ("--min", "--max") if higher else ("--max", "--min")
        better = "higher" if higher else "lower"
        raise QFMError(f"Scores of '{model}' are better when {better}: give {right}, not {wrong}.")
    rule = Rule(
        minimum if higher else maximum,
        _band(review) if review is not None else None,
        max_drop,
        higher,
        _limits(max_cause or []),
    )
    earlier = None if baseline is None else read_scores(baseline)
    found = files_of(paths, None, {"--all-files": all_files, "--no-pairs": no_pairs})
    if found.unreadable:
        raise QFMError(f"The folder {found.unreadable[0]} cannot be listed.")
    scorer = Scorer(
        loaded,
        processes=bool(found.videos),
        max_pixels=max_pixels,
        raw=raw,
        max_memory=memory,
        causes=bool(rule.max_causes),
    )
    began = time.perf_counter()
    coming = scorer.score_paths(found.files)
    rows = list(with_progress(coming, len(found.files), "scoring", console))
    seconds = time.perf_counter() - began
    verdicts = apply_rule(rows, rule, earlier)
    facts = (verdicts, rule, loaded.card.name, seconds)
    if junit is not None:
        write_whole(junit_xml(*facts), junit)
    if json is not None:
        write_whole(gate_json(*facts), json)
    _say(verdicts, rule, console)
    raise typer.Exit(exit_code(verdicts))


def _band(text: str) -> tuple[float, float]:
    """Parses LOW:HIGH."""
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise QFMError(f"'{text}' is not a review band: give it as LOW:HIGH, e.g. 50:60.") from None
    return low, high


def _limits(texts: Sequence[str]) -> dict[str, float]:
    """Parses CAUSE:POINTS into a dict."""
    limits: dict[str, float] = {}
    for text in texts:
        cause, _, points = text.partition(":")
        if cause not in CAUSES:
            raise QFMError(f"There is no cause '{cause}': choose from {', '.join(CAUSES)}.")
        if cause in limits:
            raise QFMError(f"--max-cause is given twice for {cause}: give it once.")
        try:
            limits[cause] = float(points)
        except ValueError:
            raise QFMError(
                f"'{text}' is not a cause's limit: give it as CAUSE:POINTS, e.g. compression:20."
            ) from None
    return limits


def _say(verdicts: Sequence[Verdict], rule: Rule, console: Console) -> None:
    """Prints the images that did not pass, worst outcome last, and one line of counts."""
    from qfm_iqm.report.gate_files import counts, without_baseline

    number = counts(verdicts)
    for outcome, style in (("review", "yellow"), ("fail", "red"), ("error", "red")):
        named = [verdict for verdict in verdicts if verdict.outcome == outcome]
        for verdict in named[:SHOWN]:
            line = f"{outcome:6}  {verdict.path}: {verdict.reason}"
            say(console, line, style)
        if len(named) > SHOWN:
            console.print(f"{outcome:6}  ... and {len(named) - SHOWN} more", style=style)
    said = ", ".join(
        f"{number[outcome]} {word}"
        for outcome, word in (
            ("pass", "passed"),
            ("review", "to be reviewed"),
            ("fail", "failed"),
            ("error", "could not be scored"),
        )
        if number[outcome] or outcome == "pass"
    )
    if unknown := without_baseline(verdicts, rule):
        said += f", {unknown} had no baseline score"
    say(console, f"{said} ({rule.describe()}).")
    if unlike := sum(verdict.out_of_distribution is True for verdict in verdicts):
        console.print(f"Out of distribution: {unlike} of these.", style="yellow")
