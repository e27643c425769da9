"""One recipe, one whole model: every stage from the teachers to the card, each resumable.

    teachers -> pseudo-labels -> training -> packing -> test -> reference statistics -> exports
             -> card

    OUT/teachers/NAME/            a run like this one, for each teacher that is trained
    OUT/pseudo_labels/NAME.csv    crops that teachers scored
    OUT/expansion.csv             unlabeled images that a teacher scored (`[distillation]`)
    OUT/best/, OUT/network/       the best epoch; the same, packed
    OUT/model/                    the finished model, its exports in it
    OUT/card.md                   the card as a page
    OUT/stages.json               what is done, by hashes (`training.stages`)

Only the last model is tested; teachers are chosen by validation.
"""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

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
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.reporting import Reporter
from qfm_iqm.training.run_folder import RunFolder, computed
from qfm_iqm.training.stages import Stages, file_hash, files_hash
from qfm_iqm.training.teaching import (
    TeacherScores,
    check_teacher,
    checked_data,
    labelling,
    teachers_of,
)
from qfm_iqm.training.trainer import Trainer

SplitName = Literal["validation", "test"]
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
    """Runs all stages of a recipe that are not done.

    Args:
        recipe: checked.
        out: folder of the run.
        resume: go on with what is in `out`.
        reporter: shows progress.
        allow_leaks: train although splits share a content or a file.
        split: what the model is evaluated on at the end.
        replace: whether a run of another recipe in `out` shall be replaced.

    Returns:
        The figures on that split; the model lies in `model/` under `out`.

    Raises:
        RecipeError: `out` cannot be used.
        TableError: splits share a content or a file, or unlabeled images leak and that is refused.
        TableError, ImageError, ModelError: data, images or weights that cannot be used.
        InterruptedRunError: asked to stop; what is done is kept.
    """
    # The first to ask says where networks compute, and so how processes find each other.
    first = PartialState(cpu=on_cpu(recipe)).is_main_process
    folder = RunFolder(out, recipe, resume=resume, replace=replace)
    if not allow_leaks:
        refuse_shared(recipe)
    data = checked_data(recipe)
    if folder.resuming and not replace:
        folder.refuse_another_split(data.split)
    reporter = reporter if first else Reporter(None)
    stages = Stages(folder.stages, reporter.say)
    scores = TeacherScores(recipe, data, out, stages, reporter)
    pool = scores.look_for_leaks()
    if first:
        folder.claim(data.split)
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
    """Refuses splits that share a content or a file, which needs no image decoded.

    Near-duplicates are left to `qfm data split` and to benchmarks, which decode every image.

    Raises:
        TableError: splits share something; or a table or file cannot be read.
    """
    table, split = rated_split(recipe)
    leaks = split_leaks(table, split, files=file_keys(table.paths(recipe.data.root)))
    refuse_leaks(leaks, remedy=ALLOW_LEAKS)


class _Network:
    """The stages of one network, from its training on."""

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
        """Runs the stages that are not done."""
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
        """The training; gives the trainer, or None if it was done already."""
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
        """The best epoch's model, packed where the recipe asks for it."""
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
        """The figures of the network on a split, in the card of the finished model."""
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
        """The reference statistics, in the card of the finished model."""
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
        """The exports of the finished model."""
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
        """The card of the finished model, as a page."""
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
    """What is trained on, in a sentence."""
    validation = 0 if data.validation is None else len(data.validation)
    return (
        f"{data.supervised} crops an epoch, {validation} validation and {len(data.test)} test "
        f"images; labels {data.label_mean:.4f} +- {data.label_std:.4f}"
        + f"; {data.pairs} pairs" * bool(data.pairs)
        + f"; {data.unlabeled} unlabeled images" * bool(data.unlabeled)
    )
