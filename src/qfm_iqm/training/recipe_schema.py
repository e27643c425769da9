"""The sections of a recipe: data, network, training, teachers, and what is made of the model."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from qfm_iqm.datasets.catalogue import DATASETS, unknown_dataset
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.card import LabelUnits


class Section(BaseModel):
    """Of a recipe: strict, and as it was built."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataConfig(Section):
    """What is trained on.

    Attributes:
        root: folder that names in the tables are relative to.
        dataset: a dataset as `qfm data list` names it, in its official layout under `root`;
            gives label units, name and terms too, where these are left out.
        labels: a table of rated images, instead of `dataset` (CSV or Parquet; relative to `root`
            if it is there).
        name: of the data, for the card and the results.
        terms: the data's terms of use, for the card.
        split: rule that splits the images: "content", the authors' "official" one, or "file".
        split_file: for "file": a split as text, as `qfm data split` writes it, or its folder of
            numbered ones.
        group: column whose groups are reported beside the whole; None for none.
        test: share of the images kept for the one test, where they are parted by content.
        validation: share of the images that selects the epoch; of an official training split
            where the authors name no validation split. 0 is for `protocol = "test-selected"`
            alone: the model learns from all that is not tested, as in the literature, and nothing
            is selected on validation.
        reference: share of the training split's images that is kept for the reference statistics:
            nothing is learned from them, and nothing chosen by them.
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
    """Where the encoder comes from.

    Attributes:
        name: timm's name, with the tag of its weights if they are used.
        weights: None for timm's public weights of `name` (the folder QFM_BACKBONE_DIR is asked
            first), "random", a .safetensors file, another timm name with tag, or a model, by its
            folder, as "default" (any of the package) or as "teachers.NAME": its whole network,
            encoder and decoder, which `name` and `network` must then describe.
        tune: "all" trains the backbone, "adapters" a low-rank addition to each of its linear
            layers and its norms (`model.adapters`), "none" leaves it as it is.
        rank: of the adapters.
        frozen_blocks: so many first blocks of a vision transformer, or groups of blocks of an
            EfficientNet, and what stands before them, stay as they are; None for none.
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
    """How it is trained.

    Attributes:
        epochs: passes over the training split.
        batch_size: crops per step and process.
        crops_per_image: random crops of each rated image per epoch.
        crop: side of the crops that are learned from, of a backbone that takes any size; None takes
            `network.crop`.
        lr: peak learning rate of AdamW.
        backbone_lr: peak learning rate of the backbone; None takes `lr`.
        layer_decay: each layer of the backbone has this share of the rate of the one after it.
        fidelity: weight of the fidelity loss on pairs of images of the same subset (`data.group`).
        ema: decay of the moving average of the weights, which is what is kept; None keeps the
            weights themselves.
        start_share: share of the model that training starts from in the weights that are kept: 0.5
            keeps the mean of before and after.
        weight_decay: none is applied to 1-D parameters, position and class tokens.
        clip: largest gradient norm.
        schedule: "step" multiplies by `decay` every `decay_epochs`, "cosine" falls to zero.
        warmup_epochs: of linear warm-up.
        warmup_prefix: the schedule begins after the warm-up; False lets it run from the start, so
            that the peak may never be held: a habit of the literature.
        decay_epochs: of the step schedule.
        decay: of the step schedule.
        fixed_crops: draw the crops of an image out of so many that never change; None draws
            another place each time.
        feature_cache: folder that keeps what the frozen part of the backbone gives for crops, for
            all runs that share it; None computes it anew each time.
        flip: mirror half of the crops.
        seed: of initial weights, crops and order.
        precision: "fp32", or "bf16" mixed precision.
        workers: processes that read images; 0 reads in the training process.
        cache: keep all decoded images in memory (3 bytes a pixel).
        device: "auto" takes what accelerate finds, "cpu" the processor.
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
    """What happens to whole photos before they are learned from: `[augment]`.

    Attributes:
        cells: table of people's mean opinions of degradations (`training.degradations.read_cells`;
            relative to `data.root` if it is there); None learns none.
        good: photos with at least this label are also learned from degraded: once an epoch, or as
            pairs.
        pairs: in each batch, beside its rated photos, of a degraded photo and the same as it is.
        often: kinds of degradation that are drawn three times as often as the others.
        floor: label of what is degraded beyond recognition.
        sequences: share of the degraded copies that are degraded twice.
        held_out: kinds of degradation that are not learned, to test on.
        smaller: share of the other photos that are shown smaller, with the same label.
        framed: share of them that get a plain frame, with the same label.
        zoom: least share of a photo's sides that is shown.
    """

    cells: Path | None = None
    good: float = 0.0
    pairs: int = Field(default=0, ge=0)
    often: tuple[str, ...] = ()
    floor: float = 0.0
    sequences: float = Field(default=0.0, ge=0, le=1)
    held_out: tuple[str, ...] = ()
    smaller: float = Field(default=0.0, ge=0, le=0.5)
    framed: float = Field(default=0.0, ge=0, le=0.5)
    zoom: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _needs_cells(self) -> Self:
        idle = {"good", "pairs", "often", "floor", "sequences", "held_out"} & self.model_fields_set
        if self.cells is None and idle:
            raise ValueError(f"augment.{min(idle)} has no effect without augment.cells")
        return self


class DistillationConfig(Section):
    """Distilled Label Expansion: images that a teacher labels (docs/method.md, section 4).

    Attributes:
        unlabeled: a folder, or a table `name[,content]`, of unlabeled images (relative to
            `root` if it is there); None for no expansion.
        root: folder that names in such a table are relative to; None for `data.root`.
        teacher: a name of `[teachers.NAME]`, or a model folder or name; none first trains one by
            this very recipe without expansion and consistency, in `teachers/baseline/`. With
            `per_step` it may be a list of several, whose scores are averaged.
        per_step: the teacher scores each crop as it comes; else each image once, as the mean
            over its covering crops, kept in `expansion.csv` under the run.
        with_rated: with `per_step` the teacher also scores crops of the rated training images.
        share: unlabeled crops in a batch per rated one.
        leaks: what becomes of unlabeled images that show a content of validation or test, or are
            near-duplicates of one of their images: "refuse" the run, or "drop" them.
        max_distance: bits by which the perceptual hashes of near-duplicates differ at most.
    """

    unlabeled: Path | None = None
    root: Path | None = None
    teacher: tuple[str, ...] = ()
    per_step: bool = False
    with_rated: bool = False
    share: float = Field(default=0.5, gt=0)
    leaks: Literal["refuse", "drop"] = "refuse"
    max_distance: int = Field(default=6, ge=0, le=64)

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
            raise ValueError("distillation.teacher may be several with distillation.per_step only")
        return self


class PseudoLabelTable(Section):
    """Crops of unlabeled images with a teacher's scores, learned from as labels.

    `[pseudo_labels.NAME]`, written to `pseudo_labels/NAME.csv`.

    Attributes:
        teacher: a name of `[teachers.NAME]`; it scores the crops that cover each image.
        images: a folder, or a table `name[,content]`, of unlabeled images (relative to `data.root`
            if it is there).
        leaks: what becomes of images that show what a held-out image shows: "refuse" the run, or
            "drop" them.
    """

    teacher: str
    images: Path
    leaks: Literal["refuse", "drop"] = "refuse"


class ReferenceConfig(Section):
    """Reference statistics: percentile, interval, out-of-distribution limit: `[reference]`.

    They are found on the images that `data.reference` keeps, or on a table of others.

    Attributes:
        labels: table of rated photos that the model has not seen, in place of `data.reference`.
        level: share of photos whose label the interval holds.
        population: what the photos are, in words; None takes the name of the data.
    """

    labels: Path | None = None
    level: float = Field(default=0.9, ge=0.5, le=0.99)
    population: str | None = None


class ExportConfig(Section):
    """Exports of the finished model: `[export]`.

    They lie in the model folder: a CPU takes fp32 in place of torch, and int8 when it is asked for.

    Attributes:
        onnx: precisions to write for ONNX Runtime.
        openvino: precisions to write for OpenVINO.
        photos: folder of the photos that int8 is calibrated on; None takes training images.
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
        notes: Markdown for the end of the page, as it is: goals that were missed, what was tried.
    """

    page: Path | None = None
    degradation: Path | None = None
    size_and_frame: Path | None = None
    causes: Path | None = None
    speed: Path | None = None
    notes: Path | None = None
