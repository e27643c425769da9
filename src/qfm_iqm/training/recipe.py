"""Recipes: everything that a model depends on, in strictly typed sections.

`recipe_file` reads them from TOML. Construction validates a recipe: it refuses unknown keys, wrong
types, values out of range and paths that do not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.method.config import MethodConfig
from qfm_iqm.model.locate import is_model
from qfm_iqm.training.recipe_schema import (
    FINISHING,
    AugmentConfig,
    BackboneConfig,
    CardConfig,
    DataConfig,
    DistillationConfig,
    ExportConfig,
    NetworkSection,
    PseudoLabelTable,
    ReferenceConfig,
    Section,
    TrainConfig,
)

Protocol = Literal["validation-selected", "test-selected"]
_TEACHERS = "teachers."


class ModelConfig(Section):
    """The model folder that a run writes.

    Attributes:
        name: name of the model; the recipe's file name by default.
        description: a paragraph of text for the card.
        license: license of the weights, for the card.
        precision: precision of the weights in the file; training is in float32, and the test uses
            the weights in the file.
        packed: save only the change to the backbone's public weights, as factors of
            `backbone.rank`; the public weights are fetched when the model is loaded.
        folder: the finished model is also copied there; None leaves it in `model/` under the run.
    """

    name: str = "model"
    description: str = ""
    license: str = ""
    precision: Literal["float32", "float16"] = "float32"
    packed: bool = False
    folder: Path | None = None


class Teacher(Section):
    """A model whose scores another model learns from: `[teachers.NAME]`.

    In a file it is either a model or a recipe: the file `recipe`, or by default this recipe without
    its teachers; `set` changes keys of it. The teacher learns from the same data and split.

    Attributes:
        model: a model folder or name; None trains `recipe` in `teachers/NAME/` under the run.
        recipe: recipe of the teacher; it may have teachers itself.
    """

    model: str | None = None
    recipe: Recipe | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.model is None) == (self.recipe is None):
            raise ValueError("a teacher has either a model or a recipe")
        return self


class Recipe(Section):
    """A complete recipe: data, teachers, training and the stages after it.

    Attributes:
        protocol: "validation-selected" selects the epoch on the validation split and tests once;
            "test-selected" also scores random crops of the test split after each epoch, for the
            best test epoch that the literature reports (`training.literature`).
        teachers: teachers by name.
        augment: augmentation of whole photos; None cuts random crops.
        pseudo_labels: tables of crops with teachers' scores, by name; all are trained on.
        reference: the reference statistics; None leaves them out of the card.
        export: None exports nothing.
        card: None writes no page.
    """

    protocol: Protocol = "validation-selected"
    model: ModelConfig = ModelConfig()
    data: DataConfig
    backbone: BackboneConfig
    network: NetworkSection = NetworkSection()
    method: MethodConfig = MethodConfig()
    distillation: DistillationConfig = DistillationConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig | None = None
    teachers: dict[str, Teacher] = Field(default_factory=dict)
    pseudo_labels: dict[str, PseudoLabelTable] = Field(default_factory=dict)
    reference: ReferenceConfig | None = None
    export: ExportConfig | None = None
    card: CardConfig | None = None

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        asked = {table.teacher for table in self.pseudo_labels.values()}
        if unknown := sorted(asked - self.teachers.keys()):
            raise ValueError(f"pseudo_labels: there is no section [teachers.{unknown[0]}]")
        if self.starts_from is not None and self.starts_from not in self.teachers:
            raise ValueError(f"backbone.weights: there is no section [{self.backbone.weights}]")
        weights = self.backbone.weights or ""
        if self.train.start_share and self.starts_from is None and not is_model(weights):
            raise ValueError(
                "train.start_share has no effect without a model to start from: set "
                "backbone.weights to a model or to 'teachers.NAME'"
            )
        used = asked | {*self.distillation.teacher, self.starts_from}
        if idle := sorted(self.teachers.keys() - used):
            raise ValueError(f"nothing uses teachers.{idle[0]}: leave it out")
        for key, names in (("pseudo_labels", self.pseudo_labels), ("teachers", self.teachers)):
            if wrong := [name for name in names if not name.replace("_", "").isalnum()]:
                raise ValueError(f"{key}: '{wrong[0]}' is not a name of letters, digits and '_'")
        for table in self.pseudo_labels.values():
            if not self.table(table.images).exists():
                raise ValueError(
                    f"pseudo_labels: there is no {table.images}, nor one under {self.data.root}"
                )
        if self.reference is not None:
            own = self.reference.labels
            if (own is None) == (self.data.reference == 0):
                raise ValueError("[reference] needs either data.reference or reference.labels")
            if own is not None and not self.table(own).is_file():
                raise ValueError(f"reference.labels: there is no file {own}")
        if self.model.packed and (
            self.backbone.tune != "adapters" or self.backbone.weights == "random"
        ):
            raise ValueError(
                "model.packed needs backbone.tune = 'adapters' and public initial weights"
            )
        if self.export and self.export.photos and not self.table(self.export.photos).is_dir():
            raise ValueError(f"export.photos: there is no folder {self.export.photos}")
        for key, path in self.card or ():
            if key != "page" and path is not None and not path.is_file():
                raise ValueError(f"card.{key}: there is no file {path}")
        return self

    @model_validator(mode="after")
    def _paths_exist(self) -> Self:
        data = self.data
        if data.dataset is None and data.labels is None:
            raise ValueError("'data.labels' is missing: give a table, or --dataset instead")
        if data.dataset is not None and data.labels is not None:
            raise ValueError("data.labels and data.dataset exclude each other")
        if (data.split == "file") != (data.split_file is not None):
            raise ValueError("data.split = 'file' and data.split_file need each other")
        if not data.root.is_dir():
            raise ValueError(f"data.root: there is no folder {data.root}")
        for key, path in self._tables():
            if path is not None and not self.table(path).is_file():
                raise ValueError(f"{key}: there is no file {path}, nor one under data.root")
        if data.validation == 0 and self.protocol != "test-selected":
            raise ValueError(
                "data.validation = 0 leaves nothing to select the epoch by, which only "
                "protocol = 'test-selected' allows"
            )
        unlabeled = self.distillation.unlabeled
        if unlabeled is not None and not self.pool.exists():
            raise ValueError(
                f"distillation.unlabeled: there is no {unlabeled}, nor one under {self.pool_root}"
            )
        if (root := self.distillation.root) is not None and not root.is_dir():
            raise ValueError(f"distillation.root: there is no folder {root}")
        if self.method.noise_from == "unlabeled" and self.method.kind == "qfm" and not unlabeled:
            raise ValueError("method.noise_from = 'unlabeled' needs distillation.unlabeled")
        taught = self.method.w_u * self.method.w_pl
        if unlabeled is not None and self.method.kind == "baseline" and not taught:
            raise ValueError(
                "distillation.unlabeled has no effect on method.kind = 'baseline' "
                "with method.w_u or method.w_pl = 0"
            )
        weights = self.backbone.weights
        if weights and weights.endswith(".safetensors") and not Path(weights).is_file():
            raise ValueError(f"backbone.weights: there is no file {weights}")
        side = self.network.shorter_side
        if side is not None and side < self.network.crop:
            raise ValueError(
                f"network.shorter_side = {side} is smaller than network.crop = {self.network.crop}"
            )
        if data.test + data.validation >= 1:
            raise ValueError("data.test and data.validation leave nothing to train on")
        return self

    @model_validator(mode="after")
    def _training_crops_fit(self) -> Self:
        config = self.distillation
        if config.per_step and config.unlabeled is None:
            raise ValueError("distillation.per_step has no effect without distillation.unlabeled")
        if config.teacher and config.unlabeled is None:
            raise ValueError("distillation.teacher has no effect without distillation.unlabeled")
        if config.with_rated and not config.per_step:
            raise ValueError("distillation.with_rated needs distillation.per_step")
        for key, value in (
            ("[pseudo_labels]", self.pseudo_labels),
            ("train.fixed_crops", self.train.fixed_crops),
        ):
            if self.train.crop is not None and value:
                raise ValueError(f"{key} has crops of network.crop pixels: leave train.crop out")
        side, crop = self.network.shorter_side, self.train.crop
        if side is not None and crop is not None and side < crop:
            raise ValueError(f"train.crop = {crop} is larger than network.shorter_side = {side}")
        return self

    @model_validator(mode="after")
    def _feature_cache_fits(self) -> Self:
        frozen = self.backbone.frozen_blocks is not None
        if frozen and self.backbone.tune == "none":
            raise ValueError("backbone.frozen_blocks has no effect with backbone.tune = 'none'")
        if self.train.feature_cache is None:
            return self
        if not frozen and self.backbone.tune != "none":
            raise ValueError(
                "train.feature_cache needs a frozen part: backbone.frozen_blocks or "
                "backbone.tune = 'none'"
            )
        if self.train.fixed_crops is None:
            raise ValueError("train.feature_cache needs train.fixed_crops: crops that never change")
        if self.pseudo_labels or self.distillation.per_step:
            raise ValueError(
                "train.feature_cache keeps no crops of [pseudo_labels] or distillation.per_step"
            )
        return self

    @model_validator(mode="after")
    def _augmentation_fits(self) -> Self:
        if self.augment is None:
            return self
        if self.augment.cells is not None and not self.data.label.higher_is_better:
            raise ValueError("augment.cells needs labels that are better when higher")
        for key, value in (
            ("[pseudo_labels]", self.pseudo_labels),
            ("train.fixed_crops", self.train.fixed_crops),
            ("network.squeeze", self.network.squeeze),
            ("network.extra_scales", self.network.extra_scales),
        ):
            if value:
                raise ValueError(f"[augment] needs whole photos, which {key} excludes")
        return self

    def _tables(self) -> Iterator[tuple[str, Path | None]]:
        """The tables that must exist, with their recipe keys."""
        yield "data.labels", self.data.labels
        yield "data.split_file", self.split_text
        if self.augment is not None:
            yield "augment.cells", self.augment.cells

    def table(self, path: Path) -> Path:
        """Resolves a table or folder: under `data.root` if it exists there, else unchanged."""
        return _under(self.data.root, path)

    def without_finishing(self) -> Recipe:
        """The recipe without reference statistics, exports and page."""
        return self.model_copy(update=dict.fromkeys(FINISHING))

    def with_weights(self, weights: str) -> Recipe:
        """The recipe with other initial weights."""
        backbone = self.backbone.model_copy(update={"weights": weights})
        return self.model_copy(update={"backbone": backbone})

    @property
    def starts_from(self) -> str | None:
        """The teacher whose weights training starts from; None for other initial weights."""
        weights = self.backbone.weights or ""
        return weights.removeprefix(_TEACHERS) if weights.startswith(_TEACHERS) else None

    @property
    def training_crops(self) -> Preprocessing:
        """The preprocessing of training crops."""
        crop = self.train.crop or self.network.crop
        return self.network.preprocessing.model_copy(update={"crop": crop})

    @property
    def split_text(self) -> Path | None:
        """The split file to read: `data.split_file`, or its numbered fold if it is a folder."""
        if self.data.split_file is None:
            return None
        path = self.table(self.data.split_file)
        return path / f"fold{self.data.split_seed}.txt" if path.is_dir() else path

    @property
    def pool_root(self) -> Path:
        """The base folder for the names of unlabeled images."""
        return self.distillation.root or self.data.root

    @property
    def pool(self) -> Path:
        """The folder or table of unlabeled images; the recipe must name one."""
        assert self.distillation.unlabeled is not None
        return _under(self.pool_root, self.distillation.unlabeled)


def _under(root: Path, path: Path) -> Path:
    return root / path if (root / path).exists() else path
