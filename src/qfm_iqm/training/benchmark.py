"""Benchmark: one recipe on numbered folds and, optionally, on shares of the labels; resumable.

    OUT/<setting>/fold<k>/   the run folder of each fold (`training.run_folder`)
    OUT/figures.csv          every figure of every finished fold
    OUT/summary.csv          median and spread over folds
    OUT/summary.md           the same as a table, beside published figures

Fold k uses split number k; k also seeds the crops, the order and the initial weights. Finished
folds are not repeated; interrupted folds resume.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.datasets.leakage import Leak, fold_leaks, read_leaks, refuse_leaks, write_leaks
from qfm_iqm.errors import RecipeError
from qfm_iqm.files import write_whole
from qfm_iqm.metrics.evaluation import Evaluation
from qfm_iqm.metrics.folds import FoldFigure, Summary, summarize, summary_table
from qfm_iqm.metrics.published import published
from qfm_iqm.model.card import read_card
from qfm_iqm.model.locate import CARD_FILE
from qfm_iqm.text_tables import write_csv
from qfm_iqm.training.data import rated_table, split_of, training_images
from qfm_iqm.training.literature import best_test_epoch, habits
from qfm_iqm.training.pipeline import ALLOW_LEAKS, finished, run
from qfm_iqm.training.recipe import Protocol, Recipe
from qfm_iqm.training.recipe_file import parse_change, read_recipe
from qfm_iqm.training.reporting import Reporter

# Any of these files identifies a benchmark folder; the first is written before any run.
MARKS = ("leaks.csv", "figures.csv", "summary.csv")
SHOWN = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")
# Keys that differ between the runs or protocols of a benchmark; only its own options set them.
OWN_KEYS = {
    "data.split_seed", "data.train_share", "train.seed", "protocol", "train.warmup_prefix",
}  # fmt: skip


@dataclass(frozen=True)
class PlannedFold:
    """One run of a benchmark.

    Attributes:
        setting: "all", or the share of the labels, such as "40%" or "12.5%".
        number: number of the fold.
        recipe: the validated recipe.
        folder: the run's folder.
    """

    setting: str
    number: int
    recipe: Recipe
    folder: Path

    @property
    def done(self) -> bool:
        """Whether the fold's model has been tested."""
        return (self.folder / "model" / CARD_FILE).is_file()  # written last


def plan_benchmark(
    recipe_file: Path,
    out: Path,
    *,
    protocol: Protocol,
    folds: int | None,
    shares: Sequence[float] = (1.0,),
    dataset: str | None = None,
    changes: Sequence[str] = (),
) -> list[PlannedFold]:
    """Reads the recipe and plans all runs. Runs that already exist must fit the plan.

    Args:
        recipe_file: TOML file.
        out: folder for all runs.
        protocol: "test-selected" follows the literature's practice (`training.literature`).
        folds: number of folds; None takes the authors' split if there is one, every fold in a
            folder of splits, else ten folds.
        shares: shares of the training labels; each is a setting.
        dataset: replaces the recipe's own data (`recipe_file.dataset_keys`).
        changes: "key=value", as in `qfm train --set`; keys that a benchmark sets are refused.

    Raises:
        RecipeError: the recipe is wrong, folds or shares are out of range, or `out` holds a
            finished run of another recipe or of other images.
        TableError: a share of the labels contains no image.
    """
    if folds is not None and folds < 1:
        raise RecipeError(f"--folds needs at least 1, not {folds}.")
    if any(not 0 < share <= 1 for share in shares) or len(set(shares)) < len(shares):
        raise RecipeError(
            "Shares of the labels must be above 0 and at most 1, each given once, not "
            f"{', '.join(f'{share:g}' for share in shares)}."
        )
    settings = {share: "all" if share == 1 else f"{100 * share:g}%" for share in shares}
    if len(set(settings.values())) < len(shares):
        raise RecipeError(
            f"Shares of the labels must have different names, not {', '.join(settings.values())}."
        )
    base = read_recipe(recipe_file, changes, dataset=dataset, values={"protocol": protocol})
    keys: dict[str, Any] = {"protocol": protocol}
    if protocol == "test-selected":
        keys = habits(base.data.dataset)
    if folds is None and base.data.split == "content" and _has_official_split(base):
        keys["data.split"] = "official"
    elif folds is not None and base.data.split == "official":
        keys["data.split"] = "content"
    for key, _ in map(parse_change, changes):
        if key in OWN_KEYS | keys.keys():
            raise RecipeError(
                f"--set {key} is not allowed here: a benchmark sets it itself, from --protocol, "
                "--folds and the shares of a curve."
            )
    fixed = keys.get("data.split", base.data.split) != "content"
    count = folds or (1 if fixed else 10)
    if base.data.split == "file":
        count = _written_folds(base, folds)
    plan = [
        PlannedFold(
            setting,
            number,
            read_recipe(
                recipe_file,
                changes,
                dataset=dataset,
                values=keys
                | {
                    "data.split_seed": number,
                    "data.train_share": share,
                    "train.seed": number,
                    "model.name": f"{base.model.name}-{setting}-{number}",
                },
            ).without_finishing(),
            out / setting.rstrip("%") / f"fold{number}",
        )
        for share, setting in settings.items()
        for number in range(count)
    ]
    if min(shares) < 1:
        table = rated_table(base)
        for fold in plan:
            training_images(fold.recipe, table, split_of(fold.recipe, table))
    for fold in plan:
        finished(fold.recipe, fold.folder)
    return plan


def check_leaks(
    plan: Sequence[PlannedFold], out: Path, reporter: Reporter, *, allow: bool
) -> list[Leak]:
    """Looks for leaks between the splits of every fold before any training.

    Lists them in `leaks.csv` under `out`. Folds that were already compared, in the same image
    folder, are not compared again.

    Args:
        plan: the runs, all on one dataset.
        out: folder of all runs.
        reporter: shows progress.
        allow: report the number of leaks and continue.

    Raises:
        TableError: there are leaks, and `allow` is False.
    """
    recipes = {fold.number: fold.recipe for fold in plan}
    data = plan[0].recipe.data
    table = rated_table(plan[0].recipe)
    splits = {number: split_of(recipe, table) for number, recipe in recipes.items()}
    listed, seen = out / "leaks.csv", out / "leaks.checked"
    wanted = [str(data.root.resolve())]
    wanted += [f"{number} {split.sha256}" for number, split in splits.items()]
    if seen.is_file() and set(wanted) <= set(seen.read_text("utf-8").splitlines()):
        leaks = [leak for leak in read_leaks(listed) if leak.fold in splits]
    else:
        reporter.say(f"Comparing {len(table)} images between the splits of {len(splits)} folds.")
        leaks = fold_leaks(
            table, splits, data.root, lambda some, total: reporter.scoring(some, total, "hashing")
        )
        out.mkdir(parents=True, exist_ok=True)
        write_leaks(leaks, listed)
        write_whole("\n".join(wanted) + "\n", seen)
    if not allow:
        refuse_leaks(leaks, listed=listed, remedy=ALLOW_LEAKS)
    if leaks:
        reporter.say(f"{len(leaks)} pairs of images leak between splits: {listed}")
    return leaks


def _has_official_split(recipe: Recipe) -> bool:
    """Whether the authors of a recipe's dataset define the test images."""
    if recipe.data.dataset is None:
        return False
    facts = DATASETS[recipe.data.dataset]
    if facts.split == "official where marked":
        return "split" in facts.load(recipe.data.root).columns
    return facts.split == "official"


def _written_folds(recipe: Recipe, folds: int | None) -> int:
    """Number of folds in the split file: a file is one fold; a folder holds fold0.txt and so on."""
    assert recipe.data.split_file is not None
    path = recipe.table(recipe.data.split_file)
    if not path.is_dir():
        if folds is not None and folds > 1:
            raise RecipeError(
                "A split from a file is one fold: leave --folds out, or give a folder of folds."
            )
        return 1
    there = len(list(path.glob("fold*.txt")))
    if folds is not None and folds > there:
        raise RecipeError(f"--folds is {folds}, but {path} holds {there} folds.")
    return folds or there


def run_benchmark(plan: Sequence[PlannedFold], out: Path, reporter: Reporter) -> list[Summary]:
    """Runs what is missing, and writes the tables after each run.

    Does not look for leaks between splits: call `check_leaks` first.

    Raises:
        InterruptedRunError: a stop was requested; finished runs are kept.
    """
    for count, fold in enumerate(plan, 1):
        if not fold.done:
            reporter.say(f"Run {count} of {len(plan)}: {fold.setting}, fold {fold.number}")
            # `check_leaks` has compared the splits of all folds, and any leaks were allowed.
            run(fold.recipe, fold.folder, resume=True, reporter=reporter, allow_leaks=True)
            (fold.folder / "state.safetensors").unlink(missing_ok=True)
        summaries = write_tables(plan, out)
    return summaries


def write_tables(plan: Sequence[PlannedFold], out: Path) -> list[Summary]:
    """Writes the figures of the finished folds, and their summary."""
    figures = [figure for fold in plan if fold.done for figure in fold_figures(fold)]
    summaries = summarize(figures)
    write_csv(out / "figures.csv", FoldFigure._fields, figures)
    write_csv(out / "summary.csv", Summary._fields, summaries)
    shown = [row for row in summaries if row.metric in SHOWN]
    beside = published(plan[0].recipe.data.dataset or "")
    write_whole(summary_table(shown, beside), out / "summary.md")
    return summaries


def fold_figures(fold: PlannedFold) -> Iterator[FoldFigure]:
    """Yields the figures of a finished run, by both protocols.

    A run without a validation split has only "test-selected" figures: it trained on more images,
    and no epoch was selected on validation.
    """
    card = read_card(fold.folder / "model" / CARD_FILE)
    sha256 = str(card.training["split_sha256"])
    selected = card.training["images"]["validation"] > 0
    rows = Evaluation.from_csv(fold.folder / "results.csv").rows
    images = {row.subset: row.n for row in rows}
    for row in rows:
        if row.value is not None and selected:
            yield FoldFigure(
                fold.setting, "validation-selected", fold.number, row.subset, row.metric,
                row.value, row.n, card.training["best_epoch"], sha256,
            )  # fmt: skip
    if fold.recipe.protocol != "test-selected":
        return
    best = best_test_epoch(fold.folder / "log.jsonl")
    if best is None:
        return
    epoch, found = best
    for key, value in found.items():
        subset, _, metric = key.rpartition("/")
        yield FoldFigure(
            fold.setting, "test-selected", fold.number, subset, metric,
            value, images.get(subset, 0), epoch + 1, sha256,
        )  # fmt: skip
