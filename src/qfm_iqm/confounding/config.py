"""The recipe of the confounding experiment (docs/confounding.md)."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from qfm_iqm.confounding.rules import VARIANTS
from qfm_iqm.training.recipe_file import read_content, validated
from qfm_iqm.training.recipe_schema import Section


class Trial(Section):
    """Options of a run; each variant tries all trials, and keeps the best on validation.

    Attributes:
        alpha: norm of what is added to a token, as a share of the token's own.
        lr: peak learning rate.
        epochs: passes over the training crops.
        top_k: a match is drawn among so many best.
        tau: largest label difference of like quality, in standard deviations.
    """

    alpha: float = Field(gt=0, le=10)
    lr: float = Field(gt=0)
    epochs: int = Field(ge=1)
    top_k: int = Field(ge=1)
    tau: float = Field(gt=0)


class Tuning(Section):
    """Where the trials are compared: on confounded validation.

    Attributes:
        rho: how far content predicts quality.
        seeds: one run of each variant and trial for each.
    """

    rho: float = Field(ge=0, le=1)
    seeds: tuple[int, ...] = Field(min_length=1)


class Setting(Section):
    """One row of the experiment: every variant with every seed.

    Attributes:
        data: "degraded" photos; or "human", opinions of the photos themselves.
        rho: how far content predicts quality; for degraded photos.
        seeds: of photos, cells, order and first weights.
        variants: names in `rules.VARIANTS`; None for all that were registered.
        further: those as well that were tried after the verdict.
        adapters: rank of adapters in the backbone; None leaves it frozen.
        alpha: in place of the chosen one.
        epochs: in place of the chosen number.
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
            raise ValueError("rho belongs to degraded photos, and only to them")
        for name in self.variants or ():
            if name not in VARIANTS:
                raise ValueError(f"there is no variant '{name}'; choose {', '.join(VARIANTS)}")
        if self.variants and self.further:
            raise ValueError("further belongs to settings that name no variants")
        if self.adapters and any(VARIANTS[name].erased for name in self.taken):
            raise ValueError("tokens are erased of a frozen backbone: leave out its adapters")
        return self

    @property
    def taken(self) -> tuple[str, ...]:
        """Names of the variants that run."""
        return self.variants or tuple(
            n for n, v in VARIANTS.items() if self.further or not v.further
        )

    @property
    def registered(self) -> bool:
        """Whether it stands in the figure: degraded photos, frozen backbone, chosen options."""
        return self.data == "degraded" and not (self.adapters or self.alpha or self.epochs)


class Human(Section):
    """The twin with people's opinions.

    Attributes:
        column: of the subsets.
        upper: subset whose photos above its median are learned from.
        lower: subset whose photos below its median are learned from.
        test: share of the contents that a seed keeps for its test.
    """

    column: str = "subset"
    upper: str
    lower: str
    test: float = Field(default=0.25, gt=0, lt=1)


class ConfoundingRecipe(Section):
    """The whole experiment.

    Attributes:
        root: folder that the names in the table are relative to.
        labels: table of rated photos, relative to `root`.
        cells: table of mean opinions of degradations (`training.degradations.read_cells`).
        split_seed: of the project's split, whose test photos are never used.
        backbone: its name.
        weights: as in a recipe's `backbone.weights`.
        pool: so many best-rated training photos are clustered.
        photos: of these, from both ends.
        validation: of these, the validation photos of all seeds.
        test: of the others, the test photos of a seed.
        kinds: types of degradation that a photo gets.
        mild: labels above it are mild.
        severe: labels below it are severe.
        side: of the square that is degraded, in pixels, at most.
        crop: side of the crop that the network sees.
        grid: patch tokens are averaged to a grid of this side.
        batch_size: crops of a step.
        verdict: name of the setting that the verdict is of.
        tuning: where options are chosen.
        trials: what each variant tries.
        settings: what is run with the chosen options.
        human: the twin, for settings of data "human".
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
        path: TOML.
        changes: "key=value" each, as in `qfm train --set`.

    Raises:
        RecipeError: names the key that is wrong.
    """
    return validated(ConfoundingRecipe, read_content(path, changes), str(path))
