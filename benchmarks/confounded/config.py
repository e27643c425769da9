"""The recipe of the confounding experiment (docs/confounding.md)."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from confounded.rules import VARIANTS
from qfm_iqm.training.recipe_file import read_content, validated
from qfm_iqm.training.recipe_schema import Section


class Trial(Section):
    """Options of a run; each variant keeps the trial that is best on validation.

    Attributes:
        alpha: norm of the noise added to a token, as a share of the token's norm.
        lr: peak learning rate.
        epochs: passes over the training crops.
        top_k: number of best matches to draw from.
        tau: largest label difference for similar quality, in standard deviations.
    """

    alpha: float = Field(gt=0, le=10)
    lr: float = Field(gt=0)
    epochs: int = Field(ge=1)
    top_k: int = Field(ge=1)
    tau: float = Field(gt=0)


class Tuning(Section):
    """How the trials are compared, on confounded validation.

    Attributes:
        rho: how strongly content predicts quality.
        seeds: random seeds; each variant and trial runs once with each.
    """

    rho: float = Field(ge=0, le=1)
    seeds: tuple[int, ...] = Field(min_length=1)


class Setting(Section):
    """One row of the experiment: every variant with every seed.

    Attributes:
        data: "degraded" photos, or "human" for ratings of the photos themselves.
        rho: how strongly content predicts quality; only for degraded photos.
        seeds: random seeds of photos, cells, order and initial weights.
        variants: names in `rules.VARIANTS`; None for all registered ones.
        further: also run the variants that were tried after the verdict.
        adapters: rank of adapters in the backbone; None keeps it frozen.
        alpha: replaces the chosen alpha.
        epochs: replaces the chosen number of epochs.
    """

    data: Literal["degraded", "human"] = "degraded"
    rho: float | None = Field(default=None, ge=0, le=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    variants: tuple[str, ...] | None = None
    further: bool = False
    adapters: int | None = Field(default=None, ge=1)
    alpha: float | None = Field(default=None, gt=0, le=10)
    epochs: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.data == "degraded") != (self.rho is not None):
            raise ValueError("degraded photos need rho, and only they may have it")
        for name in self.variants or ():
            if name not in VARIANTS:
                raise ValueError(f"there is no variant '{name}'; choose {', '.join(VARIANTS)}")
        if self.variants and self.further:
            raise ValueError("further has no effect on settings that name their variants")
        if self.adapters and any(VARIANTS[name].erased for name in self.taken):
            raise ValueError("erasing needs a frozen backbone: leave out its adapters")
        return self

    @property
    def taken(self) -> tuple[str, ...]:
        """Names of the variants that run."""
        return self.variants or tuple(
            n for n, v in VARIANTS.items() if self.further or not v.further
        )

    @property
    def registered(self) -> bool:
        """Whether it is in the figure: degraded photos, frozen backbone, chosen options."""
        return self.data == "degraded" and not (self.adapters or self.alpha or self.epochs)


class Human(Section):
    """The twin experiment with human ratings.

    Attributes:
        column: column of the subsets.
        upper: subset whose photos above its median are used for training.
        lower: subset whose photos below its median are used for training.
        test: share of the contents that each seed uses for testing.
    """

    column: str = "subset"
    upper: str
    lower: str
    test: float = Field(default=0.25, gt=0, lt=1)


class ConfoundingRecipe(Section):
    """The whole experiment.

    Attributes:
        root: base folder of the names in the table.
        labels: table of rated photos, relative to `root`.
        cells: table of mean ratings of degradations (`training.degradations.read_cells`).
        split_seed: seed of the project's split, whose test photos are never used.
        backbone: name of the backbone.
        weights: as in a recipe's `backbone.weights`.
        pool: number of best-rated training photos that are clustered.
        photos: number of photos taken from both ends of the pool.
        validation: number of these photos that are used for validation by all seeds.
        test: number of the other photos that each seed uses for testing.
        kinds: number of degradation types per photo.
        mild: labels above this value are mild.
        severe: labels below this value are severe.
        side: largest side of the square that is degraded, in pixels.
        crop: side of the network's crop in pixels.
        grid: side of the grid that patch tokens are averaged to.
        batch_size: crops per step.
        verdict: name of the setting for the verdict.
        tuning: how options are chosen.
        trials: options that each variant tries.
        settings: settings that run with the chosen options.
        human: the twin experiment, for settings with data "human".
    """

    root: Path
    labels: Path
    cells: Path
    split_seed: int = Field(default=0, ge=0)
    backbone: str
    weights: str | None = None
    pool: int = Field(ge=4)
    photos: int = Field(ge=4)
    validation: int = Field(ge=2)
    test: int = Field(ge=2)
    kinds: int = Field(default=4, ge=1)
    mild: float = 3.3
    severe: float = 2.5
    side: int = Field(default=512, ge=16)
    crop: int = Field(default=224, ge=16)
    grid: int = Field(default=7, ge=1)
    batch_size: int = Field(default=64, ge=2)
    verdict: str
    tuning: Tuning
    trials: tuple[Trial, ...] = Field(min_length=1)
    settings: dict[str, Setting] = Field(min_length=1)
    human: Human | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.photos > self.pool or self.photos % 2:
            raise ValueError("photos must be an even number of those in the pool")
        if self.validation + self.test >= self.photos:
            raise ValueError("validation and test leave no photos to train on")
        if self.verdict not in self.settings:
            raise ValueError(f"verdict names no setting: choose {', '.join(self.settings)}")
        if self.human is None and any(s.data == "human" for s in self.settings.values()):
            raise ValueError("a setting of data 'human' needs the section [human]")
        return self


def read_confounding(path: Path, changes: list[str]) -> ConfoundingRecipe:
    """Reads and checks the experiment's recipe.

    Args:
        path: TOML file.
        changes: "key=value" each, as in `qfm train --set`.

    Raises:
        RecipeError: a key is wrong; the message names it.
    """
    return validated(ConfoundingRecipe, read_content(path, changes), str(path))
