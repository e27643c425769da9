"""Teachers and their scores: the stages of a pipeline before the training.

Tables of pseudo-labels are in `pseudo_labels/`; the scores of whole unlabeled images are in
`expansion.csv`. Unlabeled images that repeat a held-out image are searched for before any teacher
is trained.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import PartialState

from qfm_iqm.errors import RecipeError
from qfm_iqm.files import text_hash
from qfm_iqm.model.folder import load_card, load_model
from qfm_iqm.model.model import QualityModel
from qfm_iqm.training.building import (
    build_model,
    check_memory,
    freeze,
    on_cpu,
    open_feature_cache,
)
from qfm_iqm.training.data import TrainingData, UnlabeledImage, load_data
from qfm_iqm.training.expansion import UnlabeledPool, expand, find_pool, without_leaks
from qfm_iqm.training.pseudo_labels import write_pseudo_labels
from qfm_iqm.training.recipe import Recipe, Teacher
from qfm_iqm.training.recipe_schema import DistillationConfig, PseudoLabelTable
from qfm_iqm.training.reporting import Reporter
from qfm_iqm.training.stages import Stages

BASELINE = "baseline"  # the teacher that `[distillation]` trains if it names none


def teachers_of(recipe: Recipe) -> dict[str, Teacher]:
    """A recipe's teachers, including those that `[distillation]` names or trains."""
    teachers = dict(recipe.teachers)
    for name in labelling(recipe):
        if name not in teachers:
            trained = name == BASELINE and not recipe.distillation.teacher
            teachers[name] = (
                Teacher(recipe=baseline_recipe(recipe)) if trained else Teacher(model=name)
            )
    return teachers


def labelling(recipe: Recipe) -> tuple[str, ...]:
    """Names of the teachers that label the images of `[distillation]`; none without these."""
    config = recipe.distillation
    return () if config.unlabeled is None else config.teacher or (BASELINE,)


def baseline_recipe(recipe: Recipe) -> Recipe:
    """The recipe of a plain baseline with the same network, images and labels."""
    return recipe.without_finishing().model_copy(
        update={
            "distillation": DistillationConfig(),
            "method": recipe.method.model_copy(update={"kind": "baseline"}),
            "model": recipe.model.model_copy(
                update={"name": f"{recipe.model.name}-teacher", "packed": False, "folder": None}
            ),
            "teachers": {},
            "pseudo_labels": {},
        }
    )


def check_teacher(name: str, model: str, recipe: Recipe, data: TrainingData) -> None:
    """Refuses a teacher with other label units, or one trained on held-out images.

    Raises:
        RecipeError: the teacher does not fit.
        ModelError: there is no such model.
    """
    card = load_card(model)
    if card.label != recipe.data.label:
        raise RecipeError(
            f"The teacher {name} scores in {card.label!r}, but the labels are in "
            f"{recipe.data.label!r}: a teacher must predict in the units of the labels."
        )
    learned = card.training
    same_data = learned.get("data") == recipe.data.name
    if same_data and learned.get("split_sha256") != data.split.sha256:
        raise RecipeError(
            f"The teacher {name} was trained on another split of the same data: it has learned "
            "from images that this run is evaluated on."
        )
    crop = recipe.training_crops.crop
    scores = recipe.distillation.per_step and name in labelling(recipe)  # each crop as it comes
    any_size = card.preprocessing.max_aspect > 1
    if scores and card.network.crop != crop and not any_size:
        raise RecipeError(
            f"distillation.per_step needs a teacher with crops of {crop} pixels, but "
            f"{name} takes {card.network.crop}."
        )


def device_of(recipe: Recipe) -> torch.device:
    """The device of a recipe's networks."""
    if on_cpu(recipe):
        return torch.device("cpu")
    device: torch.device = PartialState().device
    return device


def checked_data(recipe: Recipe) -> TrainingData:
    """The rated images of a recipe; checks everything it can before teachers are trained.

    Raises:
        QFMError: images, labels, network or teachers do not fit.
    """
    data = load_data(recipe)
    if teachers := teachers_of(recipe):
        torch.manual_seed(recipe.train.seed)
        # The teacher that provides the initial weights may not be trained yet.
        start = recipe if recipe.starts_from is None else recipe.with_weights("random")
        model = build_model(start, data)
        check_memory(recipe, model.network, device_of(recipe))
        for name, teacher in teachers.items():
            if teacher.model is not None:
                check_teacher(name, teacher.model, recipe, data)
    return data


class TeacherScores:
    """Scores images with a recipe's teachers.

    Args:
        recipe: the run's recipe.
        data: the run's data; nothing is learned from its held-out images.
        out: the run's folder.
        stages: the run's record.
        reporter: shows progress.
    """

    def __init__(
        self, recipe: Recipe, data: TrainingData, out: Path, stages: Stages, reporter: Reporter
    ) -> None:
        self.recipe, self.data, self.out = recipe, data, out
        self.stages, self.reporter = stages, reporter
        self.first = PartialState().is_main_process
        self._leak_free: dict[str, UnlabeledPool] = {}

    def look_for_leaks(self) -> UnlabeledPool | None:
        """Looks for unlabeled images that leak, before teachers are trained.

        Returns:
            The pool of `[distillation]` without leaks; None if there is no pool.

        Raises:
            TableError: there are leaks, and they are refused.
        """
        pool, recipe, config = None, self.recipe, self.recipe.distillation
        if config.unlabeled is not None:
            # The first process writes the list; the others then write the same list.
            with PartialState().main_process_first():
                pool = without_leaks(
                    find_pool(recipe.pool, recipe.pool_root), self.data, self.out / "leaks.csv",
                    self.reporter, drop=config.leaks == "drop",
                )  # fmt: skip
        for name, table in self.recipe.pseudo_labels.items():
            if self.first and not self._file(name).is_file():
                self._without_leaks(name, table, self._pool(table))
        return pool

    def score_crops(self, name: str, teachers: Mapping[str, str]) -> Path:
        """The table of crops with a teacher's scores; computed if missing.

        Args:
            name: name of the recipe's section.
            teachers: models by teacher name.
        """
        table, file = self.recipe.pseudo_labels[name], self._file(name)
        model, pool = teachers[table.teacher], self._pool(table)
        held_out = [(held.names, held.contents) for held in self.data.held_out.values()]

        def make() -> list[Path]:
            leak_free = self._without_leaks(name, table, pool)
            write_pseudo_labels(
                load_model(model).to(device_of(self.recipe)),
                list(zip(leak_free.names, leak_free.contents, leak_free.paths, strict=True)),
                file,
                self.reporter.scoring,
            )
            return [file]

        self.stages.once(
            f"pseudo_labels/{name}",
            lambda: {
                "teacher": load_card(model).weights_sha256,
                "request": text_hash(table.model_dump_json()),
                "images": pool.hash(),
                "held-out images": text_hash(repr(held_out)),
            },
            make,
        )
        return file

    def score_images(self, pool: UnlabeledPool, teacher: QualityModel) -> list[UnlabeledImage]:
        """Unlabeled images with a teacher's scores (`[distillation]`)."""
        recipe, file = self.recipe, self.out / "expansion.csv"
        cache, source = None, None
        frozen = recipe.train.feature_cache is not None
        if frozen and teacher.card.network.backbone == recipe.backbone.name:
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
        device = "cpu" if recipe.train.device == "cpu" else None
        with PartialState().main_process_first():
            if cache is not None:
                cache.fill([], pool.paths, self.reporter.scoring, lenient=True)
            unlabeled = expand(pool, teacher, file, self.reporter, device=device, source=source)
        if state != "done":
            self.stages.end("expansion", [file])
        return unlabeled

    def _file(self, name: str) -> Path:
        return self.out / "pseudo_labels" / f"{name}.csv"

    def _pool(self, table: PseudoLabelTable) -> UnlabeledPool:
        """The images of a table."""
        place, root = self.recipe.table(table.images), self.data.root
        pool = find_pool(place, root)
        if not place.is_dir():
            return pool
        # A table's names are relative to `data.root`, wherever the folder lies.
        inside = place.resolve().is_relative_to(root.resolve())
        files = [path.resolve() for path in pool.paths]
        names = tuple(str(f.relative_to(root.resolve()) if inside else f) for f in files)
        return UnlabeledPool(names, names, pool.paths)

    def _without_leaks(
        self, name: str, table: PseudoLabelTable, pool: UnlabeledPool
    ) -> UnlabeledPool:
        """A table's images without leaks; searched only once."""
        self._file(name).parent.mkdir(parents=True, exist_ok=True)
        if name not in self._leak_free:
            listed = self._file(name).with_suffix(".leaks.csv")
            self._leak_free[name] = without_leaks(
                pool, self.data, listed, self.reporter, drop=table.leaks == "drop"
            )
        return self._leak_free[name]
