"""The sections of a recipe that say what is learned from: rated images, and unrated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from qfm_iqm.datasets.catalogue import DATASETS, unknown_dataset
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
        labels: in its place, a table of rated images (CSV or Parquet; relative to `root` if it
            is there).
        name: of the data, for the card and the results.
        terms: the data's terms of use, for the card.
        split: rule by which images are parted: "content", the authors' "official" one, or "file".
        split_file: for "file": a split as text, as `qfm data split` writes it, or its folder of
            numbered ones.
        group: column whose groups are reported beside the whole; None for none.
        test: share of the images kept for the one test, where they are parted by content.
        validation: share of the images that selects the epoch; of an official training part
            where the authors name no validation split. 0 is for `protocol = "test-selected"`
            alone: the model learns from all that is not tested, as in the literature, and nothing
            is selected on validation.
        train_share: share of the training part's images that is used: what few labels do.
        split_seed: number of the fold: the seed of a split by content, the file in a folder.
        label: units and direction of the labels.
        pseudo_labels: tables of crops scored by a teacher (`qfm pseudo-label`), trained on
            beside the labels; rows of a content that validation or test hold are left out.
            Crops smaller than `network.crop` are not learned from as they are: what the teacher
            said of an image's crops tells what it says of the image.
        human_labels: train on the rated images too; False trains on the pseudo-labels alone.
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
    train_share: float = Field(default=1.0, gt=0, le=1)
    split_seed: int = Field(default=0, ge=0)
    label: LabelUnits = LabelUnits()
    pseudo_labels: tuple[Path, ...] = ()
    human_labels: bool = True

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, name: str | None) -> str | None:
        if name is not None and name not in DATASETS:
            raise ValueError(unknown_dataset(name).rstrip("."))
        return name


class DistillationConfig(Section):
    """Distilled Label Expansion: unrated images, labelled by a teacher (docs/method.md, section 4).

    Attributes:
        unlabelled: a folder, or a table `name[,content]`, of unrated images (relative to
            `root` if it is there); None for no expansion.
        root: folder that names in such a table are relative to; None for `data.root`.
        teacher: a model folder or name; None first trains one by this very recipe without
            expansion and consistency, on the training part, in `teacher/` under the run.
        per_step: the teacher scores each crop as it comes; else each image once, as the mean
            over its covering crops, kept in `expansion.csv` under the run.
        share: unrated crops in a batch per rated one.
        leaks: what becomes of unrated images that show a content of validation or test, or are
            near-duplicates of one of their images: "refuse" the run, or "drop" them.
        max_distance: bits by which the perceptual hashes of near-duplicates differ at most.
    """

    unlabelled: Path | None = None
    root: Path | None = None
    teacher: str | None = None
    per_step: bool = False
    share: float = Field(default=0.5, gt=0)
    leaks: Literal["refuse", "drop"] = "refuse"
    max_distance: int = Field(default=6, ge=0, le=64)
