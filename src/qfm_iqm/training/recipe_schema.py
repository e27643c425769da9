"""The sections of a recipe: data, network, training, teachers, and the stages after training."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from qfm_iqm.datasets.catalogue import DATASETS, unknown_dataset
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.card import LabelUnits

FINISHING = ("reference", "export", "card")
"""The sections of the stages after training."""


class Section(BaseModel):
    """A section of a recipe: strict and immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataConfig(Section):
    """The training data.

    Attributes:
        root: folder that names in the tables are relative to.
        dataset: name of a dataset in `qfm data list`, in its official layout under `root`; also
            sets label units, name and terms if these are left out.
        labels: a table of rated images, instead of `dataset` (CSV or Parquet; relative to `root`
            if it is there).
        name: name of the data, for the card and the results.
        terms: the data's terms of use, for the card.
        split: rule that splits the images: "content", the authors' "official" split, or "file".
        split_file: for "file": a split as text, as written by `qfm data split`, or its folder of
            numbered splits.
        group: column of groups to report in addition to the whole; None for no groups.
        test: share of the images kept for the final test, for a split by content.
        validation: share of the images that selects the epoch; share of an official training
            split if the authors name no validation split. 0 is allowed only for
            `protocol = "test-selected"`: all images outside the test split are trained on, as in
            the literature, and nothing is selected on validation.
        reference: share of the training split's images that is kept for the reference statistics;
            they are used neither for training nor for selection.
        train_share: share of the other training images that is used, to study few labels.
        split_seed: number of the fold: the seed of a split by content, the file in a folder.
        label: units and direction of the labels.
    """

    root: Path
    dataset: str | None = None
    labels: Path | None = None
    name: str = ""
    terms: str = ""
    split: Literal["content", "official", "file"] = "content"
    split_file: Path | None = None
    group: str | None = None
    test: float = Field(default=0.2, gt=0, lt=1)
    validation: float = Field(default=0.1, ge=0, lt=1)
    reference: float = Field(default=0.0, ge=0, lt=1)
    train_share: float = Field(default=1.0, gt=0, le=1)
    split_seed: int = Field(default=0, ge=0)
    label: LabelUnits = LabelUnits()

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, name: str | None) -> str | None:
        if name is not None and name not in DATASETS:
            raise ValueError(unknown_dataset(name).rstrip("."))
        return name


class BackboneConfig(Section):
    """The backbone and its initial weights.

    Attributes:
        name: timm's model name, with the tag of its weights if they are used.
        weights: None for timm's public weights of `name` (the folder QFM_BACKBONE_DIR is searched
            first), "random", a .safetensors file, another timm name with tag, or a model: a model
            folder, a packaged model such as "default", or "teachers.NAME". A model provides its
            whole network, encoder and decoder, which `name` and `network` must then describe.
        tune: "all" trains the backbone, "adapters" its norms and a low-rank addition to each of
            its linear layers (`model.adapters`), "none" freezes it.
        rank: rank of the adapters.
        frozen_blocks: number of first blocks of a vision transformer, or groups of blocks of an
            EfficientNet, to freeze, with everything before them; None for none.
    """

    name: str
    weights: str | None = None
    tune: Literal["all", "adapters", "none"] = "all"
    rank: int = Field(default=16, ge=1)
    frozen_blocks: int | None = Field(default=None, ge=1)


class NetworkSection(Preprocessing, Section):
    """Network and preprocessing; see `NetworkConfig` and `Preprocessing`."""

    width: int | None = Field(default=None, ge=1)
    decoder: str = "attention-panel"
    heads: int | None = Field(default=None, ge=1)
    panel: int = Field(default=6, ge=1)

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes crops."""
        return Preprocessing(**self.model_dump(include=set(Preprocessing.model_fields)))


class TrainConfig(Section):
    """The options of training.

    Attributes:
        epochs: passes over the training split.
        batch_size: crops per step and process.
        crops_per_image: random crops of each rated image per epoch.
        crop: side of the training crops, for a backbone that takes any size; None takes
            `network.crop`.
        lr: peak learning rate of AdamW.
        backbone_lr: peak learning rate of the backbone; None takes `lr`.
        layer_decay: ratio of a backbone layer's learning rate to that of the next layer.
        fidelity: weight of the fidelity loss on pairs of images of the same subset (`data.group`).
        ema: decay of the moving average of the weights, which is then saved; None saves the
            weights themselves.
        start_share: share of the initial model in the saved weights: 0.5 saves the mean of the
            weights before and after training.
        weight_decay: weight decay; not applied to 1-D parameters, position and class tokens.
        clip: largest gradient norm.
        schedule: "step" multiplies by `decay` every `decay_epochs`, "cosine" falls to zero.
        warmup_epochs: epochs of linear warm-up.
        warmup_prefix: start the schedule after the warm-up; False starts it with the first epoch,
            as in the literature, so that the peak rate may never be reached.
        decay_epochs: epochs per step of the step schedule.
        decay: factor of the step schedule.
        fixed_crops: number of fixed crops per image to draw from; None draws a new position each
            time.
        feature_cache: folder for the frozen part's features of crops, for all runs that share it;
            None computes them each time.
        flip: mirror half of the crops.
        seed: seed of initial weights, crops and order.
        precision: "fp32", or "bf16" mixed precision.
        workers: processes that read images; 0 reads in the training process.
        cache: keep all decoded images in memory (3 bytes per pixel).
        device: "auto" takes the device that accelerate finds, "cpu" the processor.
    """

    epochs: int = Field(default=9, ge=1)
    batch_size: int = Field(default=32, ge=2)
    crops_per_image: int = Field(default=1, ge=1)
    crop: int | None = Field(default=None, ge=16)
    lr: float = Field(default=2e-4, gt=0)
    backbone_lr: float | None = Field(default=None, gt=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    fidelity: float = Field(default=0.0, ge=0)
    ema: float | None = Field(default=None, gt=0, lt=1)
    start_share: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0)
    clip: float = Field(default=5.0, gt=0)
    schedule: Literal["step", "cosine"] = "step"
    warmup_epochs: float = Field(default=3, ge=0)
    warmup_prefix: bool = True
    decay_epochs: float = Field(default=3, gt=0)
    decay: float = Field(default=0.1, gt=0, le=1)
    fixed_crops: int | None = Field(default=None, ge=1)
    feature_cache: Path | None = None
    flip: bool = True
    seed: int = Field(default=0, ge=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    workers: int = Field(default=0, ge=0)
    cache: bool = False
    device: Literal["auto", "cpu"] = "auto"


class AugmentConfig(Section):
    """Augmentation of whole photos: `[augment]`.

    Attributes:
        cells: table of people's mean opinions of degradations (`training.degradations.read_cells`;
            relative to `data.root` if it is there); None uses no degraded photos.
        good: photos with at least this label are also trained on degraded: once per epoch, or as
            pairs.
        pairs: pairs of a degraded photo and its original in each batch, besides the rated photos.
        often: kinds of degradation that are drawn three times as often as the others.
        floor: label of a photo that is degraded beyond recognition.
        sequences: share of the degraded copies that are degraded twice.
        smaller: share of the other photos that are reduced, with the same label.
        framed: share of them that get a plain frame, with the same label.
        zoom: least share of a photo's sides that is visible.
    """

    cells: Path | None = None
    good: float = 0.0
    pairs: int = Field(default=0, ge=0)
    often: tuple[str, ...] = ()
    floor: float = 0.0
    sequences: float = Field(default=0.0, ge=0, le=1)
    smaller: float = Field(default=0.0, ge=0, le=0.5)
    framed: float = Field(default=0.0, ge=0, le=0.5)
    zoom: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _needs_cells(self) -> Self:
        idle = {"good", "pairs", "often", "floor", "sequences"} & self.model_fields_set
        if self.cells is None and idle:
            raise ValueError(f"augment.{min(idle)} has no effect without augment.cells")
        return self


class DistillationConfig(Section):
    """Distilled Label Expansion: images that a teacher labels (docs/method.md, section 4).

    Attributes:
        unlabeled: a folder, or a table `name[,content]`, of unlabeled images (relative to
            `root` if it is there); None for no expansion.
        root: base folder of the names in such a table; None takes `data.root`.
        teacher: a name of `[teachers.NAME]`, or a model folder or name; if empty, a teacher is
            first trained with this recipe without expansion and consistency, in
            `teachers/baseline/`. With `per_step` it may be a list, whose scores are averaged.
        per_step: the teacher scores each crop in training; else each image once, as the mean
            over its covering crops, kept in `expansion.csv` under the run.
        with_rated: with `per_step`, the teacher also scores crops of the rated training images.
        share: unlabeled crops per rated crop in a batch.
        leaks: what to do with unlabeled images that share a content with validation or test, or
            are near-duplicates of their images: "refuse" the run, or "drop" them.
    """

    unlabeled: Path | None = None
    root: Path | None = None
    teacher: tuple[str, ...] = ()
    per_step: bool = False
    with_rated: bool = False
    share: float = Field(default=0.5, gt=0)
    leaks: Literal["refuse", "drop"] = "refuse"

    @field_validator("teacher", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _several_teachers(self) -> Self:
        if len(set(self.teacher)) < len(self.teacher):
            raise ValueError("distillation.teacher may name a teacher only once")
        if len(self.teacher) > 1 and not self.per_step:
            raise ValueError("distillation.teacher may be a list only with distillation.per_step")
        return self


class PseudoLabelTable(Section):
    """Crops of unlabeled images with a teacher's scores as labels.

    `[pseudo_labels.NAME]`, written to `pseudo_labels/NAME.csv`.

    Attributes:
        teacher: a name of `[teachers.NAME]`; it scores the crops that cover each image.
        images: a folder, or a table `name[,content]`, of unlabeled images (relative to `data.root`
            if it is there).
        leaks: what to do with images that show the same as a held-out image: "refuse" the run, or
            "drop" them.
    """

    teacher: str
    images: Path
    leaks: Literal["refuse", "drop"] = "refuse"


class ReferenceConfig(Section):
    """Reference statistics: percentile, interval, out-of-distribution limit: `[reference]`.

    They are computed on the images that `data.reference` keeps, or on another table.

    Attributes:
        labels: table of rated photos that the model has not seen, instead of `data.reference`.
        level: share of photos whose label the interval contains.
        population: description of the photos; None takes the name of the data.
    """

    labels: Path | None = None
    level: float = Field(default=0.9, ge=0.5, le=0.99)
    population: str | None = None


class ExportConfig(Section):
    """Exports of the finished model: `[export]`.

    They are in the model folder; a CPU uses fp32 instead of torch, and int8 if it is requested.

    Attributes:
        onnx: precisions to write for ONNX Runtime.
        openvino: precisions to write for OpenVINO.
        photos: folder of photos for calibrating int8; None takes training images.
    """

    onnx: tuple[Literal["fp32", "int8"], ...] = ()
    openvino: tuple[Literal["fp32", "int8"], ...] = ()
    photos: Path | None = None

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if not self.onnx and not self.openvino:
            raise ValueError("[export] names no precision: give onnx or openvino")
        if self.photos is not None and "int8" not in self.onnx + self.openvino:
            raise ValueError("export.photos has no effect without int8")
        return self


class CardConfig(Section):
    """The model card as a page: `[card]`.

    Attributes:
        page: Markdown file to write; None writes `card.md` under the run.
        degradation: results of `benchmarks/degradation.py` to show.
        size_and_frame: results of `benchmarks/size_and_frame.py`.
        causes: results of `benchmarks/causes.py`.
        speed: results of `benchmarks/speed.py`.
        notes: Markdown that is appended to the page unchanged: missed goals, experiments.
    """

    page: Path | None = None
    degradation: Path | None = None
    size_and_frame: Path | None = None
    causes: Path | None = None
    speed: Path | None = None
    notes: Path | None = None
