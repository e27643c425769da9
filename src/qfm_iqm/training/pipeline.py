"""The whole chain of a recipe: teacher -> pseudo-labels -> student; each stage resumable.

Without `distillation.unlabelled` the student is all there is. With it, the teacher is the model
that the recipe names, or is trained first by the same recipe as a plain baseline on the same
training part, in `teacher/` under the run; its pseudo-labels of the pool lie in `expansion.csv`;
the pairs that leak into validation or test in `leaks.csv`.
"""

from __future__ import annotations

from pathlib import Path

from accelerate import PartialState

from qfm_iqm.datasets.leakage import (
    file_keys,
    pool_leaks,
    refuse_leaks,
    split_leaks,
    write_leaks,
)
from qfm_iqm.datasets.splits import Split
from qfm_iqm.errors import RecipeError, TableError
from qfm_iqm.model.folder import load_model
from qfm_iqm.model.model import QualityModel
from qfm_iqm.training.building import freeze, stem_store
from qfm_iqm.training.data import TrainingData, rated_split
from qfm_iqm.training.expansion import UnlabelledPool, expand, find_pool
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.recipe_schema import DistillationConfig
from qfm_iqm.training.reporting import Reporter
from qfm_iqm.training.run_folder import RunFolder
from qfm_iqm.training.trainer import Trainer

ALLOW_LEAKS = "--allow-leaks goes on all the same"


def finished(recipe: Recipe, out: Path) -> bool:
    """Whether a folder holds the finished run of a recipe, on its images and its split of them.

    Raises:
        RecipeError: it holds a run of another recipe, or of other images.
        TableError: the recipe's table or split cannot be used.
    """
    folder = RunFolder(out, recipe, resume=True)
    if folder.finished:
        folder.refuse_another_split(rated_split(recipe)[1])
    return folder.finished


def prepare(
    recipe: Recipe, out: Path, *, resume: bool, reporter: Reporter, allow_leaks: bool = False
) -> Trainer:
    """Runs every stage before the student's training.

    Args:
        recipe: checked.
        out: folder of the run.
        resume: go on with what is in `out`.
        reporter: shows progress.
        allow_leaks: train although parts share a content or a file.

    Returns:
        The student's trainer, ready to run.

    Raises:
        RecipeError: `out` cannot be used.
        TableError: parts share a content or a file, or the pool leaks, and leaks are refused.
        TableError, ImageError, ModelError: data, images or weights that cannot be used.
        InterruptedRunError: asked to stop while the teacher was trained.
    """
    config = recipe.distillation
    if not allow_leaks:
        refuse_shared(recipe)
    if config.unlabelled is None:
        return Trainer(recipe, out, resume=resume, reporter=reporter)
    # Whatever can be refused is refused now, not after hours of teaching.
    data = Trainer(recipe, out, resume=resume).data
    # Of several processes the first writes the files of a stage, and the others read them.
    processes = PartialState()
    reporter = reporter if processes.is_main_process else Reporter(None)
    with processes.main_process_first():
        pool = without_leaks(find_pool(recipe), data, recipe, out, reporter)
    teacher = _teacher(recipe, data.split, out, resume=resume, reporter=reporter)
    device = "cpu" if recipe.train.device == "cpu" else None
    store, source = None, None
    if recipe.train.stems is not None and teacher.card.network.backbone == recipe.backbone.name:
        freeze(teacher.network, recipe)
        store = stem_store(teacher, recipe)
        assert store is not None
        source = store.covering
    with processes.main_process_first():
        if store is not None:
            store.fill([], pool.paths, reporter.scoring, lenient=True)
        cache = out / "expansion.csv"
        unrated = expand(pool, teacher, cache, reporter, device=device, source=source)
    return Trainer(
        recipe,
        out,
        resume=resume,
        reporter=reporter,
        unrated=unrated,
        teacher=teacher.network if config.per_step else None,
    )


def refuse_shared(recipe: Recipe) -> None:
    """Refuses splits that share a content or a file, which needs no image decoded.

    Near-duplicates are left to `qfm data split` and to benchmarks, which decode every image.

    Raises:
        TableError: splits share something; or a table or file cannot be read.
    """
    table, split = rated_split(recipe)
    leaks = split_leaks(table, split, files=file_keys(table.paths(recipe.data.root)))
    refuse_leaks(leaks, remedy=ALLOW_LEAKS)


def without_leaks(
    pool: UnlabelledPool, data: TrainingData, recipe: Recipe, out: Path, reporter: Reporter
) -> UnlabelledPool:
    """The pool without what repeats a validation or test image, if the recipe allows that.

    An image leaks if it shows a content, or bears the name, of a held-out image, or if its
    perceptual hash is near to that of one. All pairs are listed in `leaks.csv` under the run.

    Raises:
        TableError: there are leaks and the recipe refuses them, naming the nearest; or every
            image leaks.
        ImageError: a held-out image cannot be read, and so not compared.
        RecipeError: the list cannot be written.
    """
    config = recipe.distillation
    held = sum(map(len, data.held_out.values()))
    reporter.say(f"Comparing {len(pool.paths)} unrated with {held} held-out images.")
    leaks = pool_leaks(
        pool.names,
        pool.contents,
        pool.paths,
        data.held_out,
        data.root,
        max_distance=config.max_distance,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_leaks(leaks, out / "leaks.csv")
    except OSError as error:
        raise RecipeError(f"The run cannot be written to {out}: {error.strerror}.") from error
    if config.leaks == "refuse":
        refuse_leaks(leaks, listed=out / "leaks.csv", remedy="take them out of the pool")
    leaking = {leak.image for leak in leaks}
    rows = {i for i, path in enumerate(pool.paths) if str(path) in leaking}
    if rows:
        reporter.say(f"{len(rows)} unrated images leak and are left out: {out / 'leaks.csv'}")
    if len(rows) == len(pool.paths):
        raise TableError(
            f"All {len(rows)} unrated images leak ({out / 'leaks.csv'}): none is left."
        )
    return pool.without(rows)


def teacher_recipe(recipe: Recipe) -> Recipe:
    """The same network on the same part of the same labels, as a plain baseline."""
    return recipe.model_copy(
        update={
            "distillation": DistillationConfig(),
            "method": recipe.method.model_copy(update={"kind": "baseline"}),
            "model": recipe.model.model_copy(update={"name": f"{recipe.model.name}-teacher"}),
        }
    )


def _teacher(
    recipe: Recipe, split: Split, out: Path, *, resume: bool, reporter: Reporter
) -> QualityModel:
    """The teacher that the recipe names, or the one trained for it."""
    named = recipe.distillation.teacher
    folder = out / "teacher"
    if named is None:
        run = RunFolder(folder, teacher_recipe(recipe), resume=resume)
        if not run.finished:
            reporter.say(f"Training the teacher in {folder}.")
            Trainer(teacher_recipe(recipe), folder, resume=True, reporter=reporter).run()
    teacher = load_model(named or folder / "model")
    if teacher.card.label != recipe.data.label:
        raise RecipeError(
            f"distillation.teacher = {named} scores in {teacher.card.label!r}, and the labels are "
            f"{recipe.data.label!r}: a teacher must speak the units of the labels."
        )
    learned = teacher.card.training
    if learned.get("data") == recipe.data.name and learned.get("split_sha256") != split.sha256:
        raise RecipeError(
            f"distillation.teacher = {named} was trained on another split of the same data: it has "
            "learned from images that this run is judged by."
        )
    if recipe.distillation.per_step and teacher.network.config.crop != recipe.network.crop:
        raise RecipeError(
            f"distillation.per_step needs a teacher of crops of {recipe.network.crop} pixels, and "
            f"{named} takes {teacher.network.config.crop}."
        )
    return teacher
