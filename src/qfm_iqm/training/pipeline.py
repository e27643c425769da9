"""Runs every stage of a recipe, from the teachers to the card; each is resumable.

    teachers -> pseudo-labels -> training -> packing -> test -> reference statistics -> exports
             -> card

    OUT/teachers/NAME/            a run like this one for each trained teacher
    OUT/pseudo_labels/NAME.csv    crops that teachers scored
    OUT/expansion.csv             unlabeled images that a teacher scored (`[distillation]`)
    OUT/best/, OUT/network/       the best epoch's model; the same model, packed
    OUT/model/                    the finished model with its exports
    OUT/card.md                   the card as a page
    OUT/stages.json               the finished stages, with hashes (`training.stages`)

Only the final model is tested; teachers are evaluated on validation.
"""

import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState

from qfm_iqm.datasets.leakage import file_keys, refuse_leaks, split_leaks
from qfm_iqm.files import text_hash
from qfm_iqm.metrics.evaluation import Evaluation
from qfm_iqm.model.folder import load_model, save_packed
from qfm_iqm.model.locate import CARD_FILE, WEIGHTS_FILE
from qfm_iqm.training import finishing
from qfm_iqm.training.building import on_cpu
from qfm_iqm.training.data import TrainingData, UnlabeledImage, rated_split
from qfm_iqm.training.expansion import UnlabeledPool
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.reporting import Reporter
from qfm_iqm.training.run_folder import RunFolder, computed
from qfm_iqm.training.selection import SplitName
from qfm_iqm.training.stages import Stages, file_hash, files_hash
from qfm_iqm.training.teaching import (
    TeacherScores,
    check_teacher,
    checked_data,
    labelling,
    teachers_of,
)
from qfm_iqm.training.trainer import Trainer

ALLOW_LEAKS = "--allow-leaks continues anyway"


def finished(recipe: Recipe, out: Path) -> bool:
    """Whether a folder holds a finished run of a recipe, with the recipe's images and split.

    Raises:
        RecipeError: it holds a run of another recipe, or of other images.
        TableError: the recipe's table or split cannot be used.
    """
    folder = RunFolder(out, recipe, resume=True)
    if folder.finished:
        folder.refuse_another_split(rated_split(recipe)[1])
    return folder.finished


def run(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool,
    reporter: Reporter,
    allow_leaks: bool = False,
    split: SplitName = "test",
    replace: bool = False,
) -> Evaluation:
    """Runs all unfinished stages of a recipe.

    Args:
        recipe: the validated recipe.
        out: the run's folder.
        resume: continue the run in `out`.
        reporter: shows progress.
        allow_leaks: train even if splits share a content or a file.
        split: the split that evaluates the final model.
        replace: whether to replace a run of another recipe in `out`.

    Returns:
        The figures on that split; the model is in `model/` under `out`.

    Raises:
        RecipeError: `out` cannot be used.
        TableError: splits share a content or a file, or unlabeled images leak and that is refused.
        TableError, ImageError, ModelError: data, images or weights cannot be used.
        InterruptedRunError: a stop was requested; finished work is kept.
    """
    # The first PartialState sets the device, and so how processes find each other.
    first = PartialState(cpu=on_cpu(recipe)).is_main_process
    folder = RunFolder(out, recipe, resume=resume, replace=replace)
    if not allow_leaks:
        refuse_shared(recipe)
    data = checked_data(recipe)
    finishing.check_reference(recipe, data)
    if folder.resuming and not replace:
        folder.refuse_another_split(data.split)
    reporter = reporter if first else Reporter(None)
    stages = Stages(folder.stages, reporter.say)
    scores = TeacherScores(recipe, data, out, stages, reporter)
    pool = scores.look_for_leaks()
    # Networks that are evaluated on validation, such as teachers, never see the test images.
    if first and split == "test" and "training" not in stages:
        finishing.check_held_out(recipe, data, reporter)
    if first:
        folder.claim(data.split)
    with folder.locked() if first else nullcontext():
        return _run_stages(recipe, folder, scores, pool, split, allow_leaks, replace)


def _run_stages(
    recipe: Recipe,
    folder: RunFolder,
    scores: TeacherScores,
    pool: UnlabeledPool | None,
    split: SplitName,
    allow_leaks: bool,
    replace: bool,
) -> Evaluation:
    """Runs all unfinished stages; arguments and errors are those of `run`."""
    out, data, stages, reporter = folder.path, scores.data, scores.stages, scores.reporter
    teachers = {}
    for name, teacher in teachers_of(recipe).items():
        if teacher.recipe is None:
            teachers[name] = str(teacher.model)
            continue
        place = out / "teachers" / name
        inputs = {
            "recipe": text_hash(teacher.recipe.model_dump_json()),
            "labels": data.labels_hash(),
            "images": data.images_hash,
        }
        if stages.begin(f"teachers/{name}", inputs.copy) != "done":
            reporter.say(f"Teacher {name}, in {place}.")
            run(
                teacher.recipe, place, resume=True, reporter=reporter, allow_leaks=allow_leaks,
                split="validation", replace=True,
            )  # fmt: skip
            files = [place / "model" / CARD_FILE, place / "model" / WEIGHTS_FILE]
            stages.end(f"teachers/{name}", files)
        teachers[name] = str(place / "model")
        check_teacher(name, teachers[name], recipe, data)
    tables = {name: scores.score_crops(name, teachers) for name in recipe.pseudo_labels}
    if recipe.starts_from is not None:
        recipe = recipe.with_weights(teachers[recipe.starts_from])
    unlabeled: list[UnlabeledImage] = []
    models = [load_model(teachers[name]) for name in labelling(recipe)]
    if pool is not None:
        unlabeled = scores.score_images(pool, models[0])
    per_step = models if recipe.distillation.per_step else []
    trainer = partial(
        Trainer, recipe, out, resume=True, reporter=reporter, unlabeled=unlabeled,
        teachers=[model.network for model in per_step], pseudo_labels=tables.values(),
        replace=replace,
    )  # fmt: skip
    inputs = {name: file_hash(file) for name, file in tables.items()} | {
        f"teacher {number}": model.card.weights_sha256 for number, model in enumerate(per_step)
    }
    return _Network(recipe, folder, data, stages, reporter, inputs).build(trainer, split)


def refuse_shared(recipe: Recipe) -> None:
    """Refuses splits that share a content or a file; decodes no image.

    Near-duplicates are left to `qfm data split` and to benchmarks, which decode every image.

    Raises:
        TableError: splits share something; or a table or file cannot be read.
    """
    table, split = rated_split(recipe)
    leaks = split_leaks(table, split, files=file_keys(table.paths(recipe.data.root)))
    refuse_leaks(leaks, remedy=ALLOW_LEAKS)


class _Network:
    """The stages of one network, from training on."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        data: TrainingData,
        stages: Stages,
        reporter: Reporter,
        inputs: Mapping[str, str],
    ) -> None:
        self.recipe, self.folder, self.data = recipe, folder, data
        self.stages, self.reporter, self.inputs = stages, reporter, inputs
        self.out, self.model = folder.path, folder.model
        self.first = PartialState().is_main_process

    def build(self, make: Callable[[], Trainer], split: SplitName) -> Evaluation:
        """Runs the unfinished stages."""
        trainer = self._train(make)
        network = self._network()
        evaluation = self._test(trainer, make, split, network)
        self._reference(network)
        self._export()
        self._write_card()
        if self.first and self.recipe.model.folder is not None:
            shutil.copytree(self.model, self.recipe.model.folder, dirs_exist_ok=True)
        return evaluation

    def _train(self, make: Callable[[], Trainer]) -> Trainer | None:
        """Trains the network; returns the trainer, or None if this was done already."""
        recipe, best, expansion = self.recipe, self.folder.best, self.out / "expansion.csv"
        known = "training" in self.stages
        state = self.stages.begin(
            "training",
            lambda: {
                "recipe": text_hash(repr(computed(recipe.model_dump_json()))),
                "labels": self.data.labels_hash(),
                "images": self.data.images_hash,
                "first weights": finishing.weights_hash(recipe.backbone.weights),
                **self.inputs,
                **({"expansion": file_hash(expansion)} if recipe.distillation.unlabeled else {}),
            },
        )
        if state == "done":
            return None
        if state == "new" and known and self.first:
            self.folder.restart()
        PartialState().wait_for_everyone()
        trainer = make()
        self.reporter.say(_announcement(trainer.data))
        trainer.train()
        self.stages.end("training", [best / CARD_FILE, best / WEIGHTS_FILE])
        return trainer

    def _network(self) -> Path:
        """The folder of the best epoch's model, packed if the recipe says so."""
        recipe, best, network = self.recipe, self.folder.best, self.out / "network"
        if not recipe.model.packed:
            return best
        dtype = getattr(torch, recipe.model.precision)

        def make() -> list[Path]:
            save_packed(best, network, rank=recipe.backbone.rank, dtype=dtype)
            return [network / CARD_FILE, network / WEIGHTS_FILE]

        self.stages.once(
            "network",
            lambda: {
                "training": file_hash(best / CARD_FILE),
                "request": text_hash(repr(recipe.model)),
            },
            make,
        )
        return network

    def _test(
        self, trainer: Trainer | None, make: Callable[[], Trainer], split: SplitName, network: Path
    ) -> Evaluation:
        """Evaluates the network on a split; writes the figures into the model's card."""
        state = self.stages.begin(
            "test", lambda: {"network": file_hash(network / CARD_FILE), "split": text_hash(split)}
        )
        if state == "done":
            return Evaluation.from_csv(self.folder.results)
        evaluation = (trainer or make()).test(split, network)
        files = [self.folder.results, self.folder.scores(split), self.model / WEIGHTS_FILE]
        self.stages.end("test", files)
        return evaluation

    def _reference(self, network: Path) -> None:
        """Adds the reference statistics to the model's card."""
        recipe, model = self.recipe, self.model
        if recipe.reference is None:
            return
        table = finishing.reference_table(recipe, self.data)
        labels = None if table.mos is None else table.mos.tolist()
        self.stages.once(
            "reference",
            lambda: {
                "network": file_hash(network / CARD_FILE),
                "request": text_hash(repr(recipe.reference)),
                "labels": text_hash(repr((table.names, table.contents, labels))),
                "photos": files_hash(table.paths(self.data.root)),
            },
            lambda: finishing.add_reference(recipe, self.data, table, model, self.reporter),
        )

    def _export(self) -> None:
        """Writes the exports of the model."""
        recipe, model = self.recipe, self.model
        if recipe.export is None:
            return
        places = finishing.export_places(recipe.export, self.out)
        photos = finishing.export_photos(recipe, self.data)
        self.stages.once(
            "export",
            lambda: {
                "model": file_hash(model / CARD_FILE),
                "request": text_hash(repr(recipe.export)),
                "photos": files_hash(photos),
            },
            lambda: finishing.write_exports(model, places, photos, self.data),
        )

    def _write_card(self) -> None:
        """Writes the model's card as a page."""
        config, model = self.recipe.card, self.model
        if config is None:
            return
        self.stages.once(
            "card",
            lambda: {
                "model": file_hash(model / CARD_FILE),
                "page": text_hash(str(config.page)),
                **{key: file_hash(path) for key, path in config if path and key != "page"},
            },
            lambda: finishing.write_page(config, model, config.page or self.out / "card.md"),
        )


def _announcement(data: TrainingData) -> str:
    """A sentence about the training data."""
    validation = 0 if data.validation is None else len(data.validation)
    return (
        f"{data.supervised} crops an epoch, {validation} validation and {len(data.test)} test "
        f"images; labels {data.label_mean:.4f} +- {data.label_std:.4f}"
        + f"; {data.pairs} pairs" * bool(data.pairs)
        + f"; {data.unlabeled} unlabeled images" * bool(data.unlabeled)
    )
