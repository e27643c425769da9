"""One recipe, one whole model: every stage from the teachers to the card, each resumable.

    teachers -> pseudo-labels -> training -> NSS branch, packing -> test -> reference statistics
             -> exports -> card

    OUT/teachers/NAME/            a run like this one, for each teacher that is trained
    OUT/pseudo_labels/NAME.csv    crops that teachers scored
    OUT/expansion.csv             unrated images that a teacher scored (`[distillation]`)
    OUT/best/, OUT/network/       the best epoch; the same with NSS branch, or packed
    OUT/model/                    the finished model, its export for ONNX Runtime in it
    OUT/exports/, OUT/card.md     other exports; the card as a page
    OUT/stages.json               what is done, by hashes (`training.stages`)

Only the last model is tested. Teachers are chosen by validation alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from accelerate import PartialState

from qfm_iqm.distill.pseudo_labels import tokens_beside, write_pseudo_labels
from qfm_iqm.distill.teacher import PseudoLabelConfig
from qfm_iqm.errors import RecipeError
from qfm_iqm.metrics.evaluation import Evaluation
from qfm_iqm.model.card import ModelCard
from qfm_iqm.model.folder import load_card, load_model
from qfm_iqm.model.locate import CARD_FILE, WEIGHTS_FILE
from qfm_iqm.model.model import QualityModel
from qfm_iqm.training import finishing
from qfm_iqm.training.building import build_model, check_memory, freeze, open_feature_cache
from qfm_iqm.training.data import TrainingData, UnratedImage, load_data, rated_split
from qfm_iqm.training.expansion import UnlabelledPool, expand, find_pool, without_leaks
from qfm_iqm.training.leak_check import refuse_shared
from qfm_iqm.training.recipe import Recipe, Teacher
from qfm_iqm.training.recipe_schema import DistillationConfig, PseudoLabelTable
from qfm_iqm.training.reporting import Reporter
from qfm_iqm.training.run_folder import RunFolder, computed
from qfm_iqm.training.stages import Stages, file_hash, files_hash, text_hash
from qfm_iqm.training.trainer import Trainer

BASELINE = "baseline"  # the teacher that `[distillation]` trains where it names none


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        model: folder of the model.
        card: its card.
        evaluation: the figures on the split that it was tested on.
        first: whether this is the first of several processes, which alone speaks.
    """

    model: Path
    card: ModelCard
    evaluation: Evaluation
    first: bool


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
    split: Literal["validation", "test"] = "test",
    replace: bool = False,
) -> Finished:
    """Runs all stages of a recipe that are not done.

    Args:
        recipe: checked.
        out: folder of the run.
        resume: go on with what is in `out`.
        reporter: shows progress.
        allow_leaks: train although splits share a content or a file.
        split: what the model is evaluated on at the end.
        replace: whether a run of another recipe in `out` shall be replaced.

    Raises:
        RecipeError: `out` cannot be used.
        TableError: splits share a content or a file, or unrated images leak, and leaks are refused.
        TableError, ImageError, ModelError: data, images or weights that cannot be used.
        InterruptedRunError: asked to stop; what is done is kept.
    """
    folder = RunFolder(out, recipe, resume=resume, replace=replace)
    if not allow_leaks:
        refuse_shared(recipe)
    pipeline = _Pipeline(recipe, folder, reporter, allow_leaks=allow_leaks, replace=replace)
    return pipeline.run(split)


class _Pipeline:
    """The stages of one run; see `run`."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        reporter: Reporter,
        *,
        allow_leaks: bool,
        replace: bool,
    ) -> None:
        self.recipe, self.folder, self.out = recipe, folder, folder.path
        self.first = PartialState().is_main_process
        self.reporter = reporter if self.first else Reporter(None)
        self.allow_leaks, self.replace = allow_leaks, replace
        self.data = self._checked_data()
        self._images = ""
        self._looked_at: dict[str, UnlabelledPool] = {}

    def run(self, split: Literal["validation", "test"]) -> Finished:
        if self.folder.resuming:
            self.folder.refuse_another_split(self.data.split)
        config = self.recipe.distillation
        pool = None
        with PartialState().main_process_first():
            if config.unlabelled is not None:
                found = find_pool(self.recipe.pool, self.recipe.pool_root)
                pool = without_leaks(
                    found, self.data, self.out / "leaks.csv", self.reporter,
                    drop=config.leaks == "drop", max_distance=config.max_distance,
                )  # fmt: skip
        if self.first:
            self.folder.claim(self.data.split)
            for name, table in self.recipe.pseudo_labels.items():
                if table.images != "train" and not self._table_file(name).is_file():
                    self._leak_free(name, table, self._pool(table))  # before hours of teaching
        self.stages = Stages(self.folder.stages, self.reporter.say)
        teachers = self._teachers()
        tables = {
            name: self._pseudo_labels(name, table, teachers)
            for name, table in self.recipe.pseudo_labels.items()
        }
        unrated: list[UnratedImage] = []
        per_step = None
        if pool is not None:
            teacher = load_model(teachers[config.teacher or BASELINE])
            unrated = self._expand(pool, teacher)
            per_step = teacher.network if config.per_step else None
        train = partial(
            Trainer, self.recipe, self.out, resume=True, reporter=self.reporter, unrated=unrated,
            teacher=per_step, pseudo_labels=tables, replace=self.replace,
        )  # fmt: skip
        trainer = self._train(train, tables, unrated)
        network = self._network(tables)
        evaluation = self._test(trainer, train, split, network)
        for stage in (self._reference, self._export, self._write_card):
            stage()
        model = self.folder.model
        if self.first and self.recipe.model.folder is not None:
            shutil.copytree(model, self.recipe.model.folder, dirs_exist_ok=True)
        return Finished(model, load_card(model), evaluation, self.first)

    def _checked_data(self) -> TrainingData:
        """The rated images; refuses what can be refused before hours of teaching."""
        recipe = self.recipe
        without = {
            "data": recipe.data.model_copy(update={"pseudo_labels": (), "human_labels": True}),
            "method": recipe.method.model_copy(update={"w_tokens": 0.0}),
        }
        plain = recipe.model_copy(update=without)
        data = load_data(plain)
        if recipe.teachers or recipe.distillation.unlabelled is not None:
            torch.manual_seed(recipe.train.seed)
            model = build_model(plain, data)
            check_memory(plain, model.network, self._device())
            for name, teacher in self._asked().items():
                if teacher.model is not None:
                    self._check_teacher(name, teacher.model, data)
        return data

    def _device(self) -> torch.device:
        if self.recipe.train.device == "cpu":
            return torch.device("cpu")
        device: torch.device = PartialState().device
        return device

    # ---- teachers, and what they say ----

    def _asked(self) -> dict[str, Teacher]:
        """The recipe's teachers, and the one that `[distillation]` names or trains."""
        recipe, config = self.recipe, self.recipe.distillation
        teachers = dict(recipe.teachers)
        if config.unlabelled is not None and (config.teacher or BASELINE) not in teachers:
            if config.teacher is not None:
                teachers[config.teacher] = Teacher(model=config.teacher)
            else:
                teachers[BASELINE] = Teacher(recipe=baseline_recipe(recipe))
        return teachers

    def _teachers(self) -> dict[str, str]:
        """The models of the recipe's teachers, by name; trained if they are not there."""
        models = {}
        for name, teacher in self._asked().items():
            if teacher.recipe is None:
                models[name] = str(teacher.model)
                continue
            place = self.out / "teachers" / name
            self.reporter.say(f"Teacher {name}, in {place}.")
            run(
                teacher.recipe, place, resume=True, reporter=self.reporter,
                allow_leaks=self.allow_leaks, split="validation", replace=True,
            )  # fmt: skip
            models[name] = str(place / "model")
            self._check_teacher(name, models[name], self.data)
        return models

    def _check_teacher(self, name: str, model: str, data: TrainingData) -> None:
        """Refuses a teacher of other units, or that has learned from held-out images."""
        card, recipe = load_card(model), self.recipe
        if card.label != recipe.data.label:
            raise RecipeError(
                f"The teacher {name} scores in {card.label!r}, and the labels are "
                f"{recipe.data.label!r}: a teacher must speak the units of the labels."
            )
        learned = card.training
        same_data = learned.get("data") == recipe.data.name
        if same_data and learned.get("split_sha256") != data.split.sha256:
            raise RecipeError(
                f"The teacher {name} was trained on another split of the same data: it has learned "
                "from images that this run is evaluated on."
            )
        if recipe.distillation.per_step and card.network.crop != recipe.network.crop:
            raise RecipeError(
                f"distillation.per_step needs a teacher of crops of {recipe.network.crop} pixels, "
                f"and {name} takes {card.network.crop}."
            )

    def _pseudo_labels(
        self, name: str, table: PseudoLabelTable, teachers: Mapping[str, str]
    ) -> Path:
        """The table of crops that teachers score."""
        file, models = self._table_file(name), [teachers[name] for name in table.teachers]
        pool, stage = self._pool(table), f"pseudo_labels/{name}"
        state = self.stages.begin(
            stage,
            lambda: {
                **{
                    f"teacher {teacher}": load_card(model).weights_sha256
                    for teacher, model in zip(table.teachers, models, strict=True)
                },
                "request": text_hash(table.model_dump_json()),
                "images": pool.hash(),
                "held-out images": self._held_out_hash(),
            },
        )
        if state == "done":
            return file
        if self.first:
            if table.images != "train":
                pool = self._leak_free(name, table, pool)
            device = self._device()
            write_pseudo_labels(
                [load_model(model).to(device) for model in models],
                list(zip(pool.names, pool.contents, pool.paths, strict=True)),
                PseudoLabelConfig(
                    extra_crops=table.extra_crops,
                    degradation_sequences=table.degradation_sequences,
                    drop=table.drop,
                    seed=table.seed,
                    grid=table.tokens,
                ),
                file,
                self.reporter.scoring,
                workers=self.recipe.train.workers,
            )
        self.stages.end(stage, [file, *([tokens_beside(file)] if table.tokens else [])])
        return file

    def _table_file(self, name: str) -> Path:
        return self.out / "pseudo_labels" / f"{name}.csv"

    def _pool(self, table: PseudoLabelTable) -> UnlabelledPool:
        """The images of a table of pseudo-labels."""
        train, root = self.data.train, self.data.root
        if table.images == "train":
            return UnlabelledPool(train.names, train.contents, tuple(train.paths(root)))
        return find_pool(self.recipe.table(Path(table.images)), root)

    def _leak_free(
        self, name: str, table: PseudoLabelTable, pool: UnlabelledPool
    ) -> UnlabelledPool:
        """A table's unrated images without those that leak; looked for once."""
        if name not in self._looked_at:
            self._table_file(name).parent.mkdir(parents=True, exist_ok=True)
            listed = self._table_file(name).with_suffix(".leaks.csv")
            self._looked_at[name] = without_leaks(
                pool, self.data, listed, self.reporter, drop=table.leaks == "drop"
            )
        return self._looked_at[name]

    def _expand(self, pool: UnlabelledPool, teacher: QualityModel) -> list[UnratedImage]:
        """The unrated images with the teacher's scores."""
        recipe, file = self.recipe, self.out / "expansion.csv"
        device = "cpu" if recipe.train.device == "cpu" else None
        cache, source = None, None
        if (
            recipe.train.feature_cache is not None
            and teacher.card.network.backbone == recipe.backbone.name
        ):
            freeze(teacher.network, recipe)
            cache = open_feature_cache(teacher, recipe)
            assert cache is not None
            source = cache.covering
        state = self.stages.begin(
            "expansion",
            lambda: {"teacher": teacher.card.weights_sha256, "images": pool.hash()},
        )
        if state == "new" and self.first:
            file.unlink(missing_ok=True)
        with PartialState().main_process_first():
            if cache is not None:
                cache.fill([], pool.paths, self.reporter.scoring, lenient=True)
            unrated = expand(pool, teacher, file, self.reporter, device=device, source=source)
        if state != "done":
            self.stages.end("expansion", [file])
        return unrated

    # ---- the network ----

    def _train(
        self, make: Callable[[], Trainer], tables: Mapping[str, Path], unrated: list[UnratedImage]
    ) -> Trainer | None:
        """The training; the trainer, or None if it was done already."""
        recipe = self.recipe
        state = self.stages.begin(
            "training",
            lambda: {
                "recipe": text_hash(repr(computed(recipe.model_dump_json()))),
                "labels": self.data.labels_hash(),
                "images": self._images_hash(),
                "first weights": finishing.weights_hash(recipe.backbone.weights),
                **{str(name): file_hash(tables.get(str(name)) or recipe.table(name))
                   for name in recipe.data.pseudo_labels},
                **({"expansion": file_hash(self.out / "expansion.csv")} if unrated else {}),
            },
        )  # fmt: skip
        if state == "done":
            return None
        if state == "new" and self.first:
            self.folder.restart()
        PartialState().wait_for_everyone()
        trainer = make()
        self.reporter.say(_announcement(trainer.data))
        trainer.train()
        best = self.folder.best
        self.stages.end("training", [best / CARD_FILE, best / WEIGHTS_FILE])
        return trainer

    def _network(self, tables: Mapping[str, Path]) -> Path:
        """The best epoch's model, with an NSS branch and packed where the recipe asks for it."""
        recipe, best, network = self.recipe, self.folder.best, self.out / "network"
        if recipe.nss is None and not recipe.model.packed:
            return best
        learned = recipe.nss.pseudo_labels if recipe.nss else ()
        paths = {str(name): tables.get(str(name)) or recipe.table(name) for name in learned}
        state = self.stages.begin(
            "network",
            lambda: {
                "training": file_hash(best / CARD_FILE),
                "request": text_hash(f"{recipe.nss!r} {recipe.model!r}"),
                **{name: file_hash(path) for name, path in paths.items()},
            },
        )
        if state != "done":
            if self.first:
                finishing.build_network(recipe, self.data, best, network, paths, self.reporter)
            self.stages.end("network", [network / CARD_FILE, network / WEIGHTS_FILE])
        return network

    def _test(
        self,
        trainer: Trainer | None,
        make: Callable[[], Trainer],
        split: Literal["validation", "test"],
        network: Path,
    ) -> Evaluation:
        """The figures of the network on a split, in the card of the finished model."""
        state = self.stages.begin(
            "test", lambda: {"network": file_hash(network / CARD_FILE), "split": text_hash(split)}
        )
        if state == "done":
            return Evaluation.from_csv(self.folder.results)
        evaluation = (trainer or make()).test(split, network)
        model = self.folder.model / WEIGHTS_FILE
        self.stages.end("test", [self.folder.results, self.folder.scores(split), model])
        return evaluation

    # ---- what the finished model has beside its weights ----

    def _reference(self) -> None:
        recipe, model = self.recipe, self.folder.model
        if recipe.reference is None:
            return
        table = finishing.reference_table(recipe, self.data)
        photos = table.paths(self.data.root)
        state = self.stages.begin(
            "reference",
            lambda: {
                "network": file_hash(model / WEIGHTS_FILE),
                "request": text_hash(repr(recipe.reference)),
                "labels": text_hash(repr((table.names, table.contents, list(table.mos)))),
                "photos": files_hash(photos),
            },
        )
        if state != "done":
            if self.first:
                finishing.add_reference(recipe, self.data, table, model, self.reporter)
            self.stages.end("reference", [model / CARD_FILE])

    def _export(self) -> None:
        recipe, model = self.recipe, self.folder.model
        if recipe.export is None:
            return
        places = finishing.export_places(recipe.export, self.out)
        photos = finishing.export_photos(recipe, self.data)
        state = self.stages.begin(
            "export",
            lambda: {
                "model": file_hash(model / CARD_FILE),
                "request": text_hash(repr(recipe.export)),
                "photos": files_hash(photos),
            },
        )
        if state != "done":
            files: list[Path] = []
            if self.first:
                files = finishing.write_exports(model, places, photos, self.data)
            self.stages.end("export", files)

    def _write_card(self) -> None:
        config, model = self.recipe.card, self.folder.model
        if config is None:
            return
        page = config.page or self.out / "card.md"
        state = self.stages.begin(
            "card",
            lambda: {
                "model": file_hash(model / CARD_FILE),
                "page": text_hash(str(page)),
                **{key: file_hash(path) for key, path in config if path and key != "page"},
            },
        )
        if state != "done":
            if self.first:
                finishing.write_page(config, model, page)
            self.stages.end("card", [page])

    # ---- hashes ----

    def _images_hash(self) -> str:
        """Of the files of all rated images, read once."""
        self._images = self._images or files_hash(self.data.paths())
        return self._images

    def _held_out_hash(self) -> str:
        """Of the images that nothing may be learned from."""
        tables = self.data.held_out
        return text_hash(repr([(table.names, table.contents) for table in tables]))


def baseline_recipe(recipe: Recipe) -> Recipe:
    """The same network on the same images and labels, as a plain baseline."""
    return recipe.model_copy(
        update={
            "distillation": DistillationConfig(),
            "method": recipe.method.model_copy(update={"kind": "baseline"}),
            "model": recipe.model.model_copy(update={"name": f"{recipe.model.name}-teacher"}),
            "data": recipe.data.model_copy(
                update={
                    "pseudo_labels": tuple(
                        name
                        for name in recipe.data.pseudo_labels
                        if str(name) not in recipe.pseudo_labels
                    )
                }
            ),
            "teachers": {},
            "pseudo_labels": {},
            **dict.fromkeys(("nss", "reference", "export", "card")),
        }
    )


def _announcement(data: TrainingData) -> str:
    """What is trained on, in a sentence."""
    unrated = len(data.samples) - data.supervised
    return (
        f"{data.supervised} crops an epoch, {0 if data.validation is None else len(data.validation)} "
        f"validation and "
        f"{len(data.test)} test images; labels {data.label_mean:.4f} +- {data.label_std:.4f}"
        + f"; {data.left_out} pseudo-labels of held-out contents left out" * bool(data.left_out)
        + f"; {unrated} unrated images" * bool(unrated)
    )
