"""The recipe options of the training method; light to import."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class MethodConfig(BaseModel):
    """The training method; the defaults are those of docs/method.md.

    Attributes:
        kind: "baseline" trains on labels only; "qfm" adds memory bank, matching and consistency.
        memory: entries in the memory bank.
        matching: rule that chooses a crop's semantic noise, a name in `matching.MATCHING`.
            "quality" (the ICML text): similar quality, dissimilar semantics; "semantics" (arXiv
            v1): similar semantics, dissimilar quality. Controls: "like_quality" and
            "unlike_semantics" apply one half of "quality" each; "random" takes any other content;
            "gaussian" adds noise with the norm of the "quality" match.
        tau: largest label difference of a "quality" match, in standard deviations of the labels.
        delta: smallest label difference of a "semantics" match, in the same units.
        top_k: a match is drawn uniformly from the k best.
        alpha: weight of the added features.
        tokens: tokens that are perturbed.
        renormalize: rescale each perturbed token to its original norm.
        target: target of the perturbed prediction: the crop's own prediction ("own"), the same
            with gradient ("own_gradient"), or the label ("label").
        w_qcc: weight of the consistency term of supervised crops.
        w_u: weight of all terms of unlabeled crops (DLE).
        w_pl: weight, within these terms, of regression on the teacher's pseudo-label.
        noise_from: crops whose features enter the memory bank: supervised, unlabeled, or both.
        start_epoch: epochs before the consistency term starts; its weight then rises linearly from
            zero over one epoch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    kind: Literal["baseline", "qfm"] = "baseline"
    memory: int = Field(default=1024, ge=1)
    matching: str = "quality"
    tau: float = Field(default=0.25, gt=0)
    delta: float = Field(default=1.0, gt=0)
    top_k: int = Field(default=1, ge=1)
    alpha: float = Field(default=0.1, ge=0, le=10)
    tokens: Literal["all", "patches", "class"] = "all"
    renormalize: bool = False
    target: Literal["own", "own_gradient", "label"] = "own"
    w_qcc: float = Field(default=1.0, ge=0)
    w_u: float = Field(default=0.5, ge=0)
    w_pl: float = Field(default=0.0, ge=0)
    noise_from: Literal["supervised", "unlabeled", "both"] = "both"
    start_epoch: float = Field(default=0.0, ge=0)

    @field_validator("matching")
    @classmethod
    def _known_rule(cls, name: str) -> str:
        # Imported here so that a wrong recipe is refused before torch is imported.
        from qfm_iqm.method.matching import MATCHING

        if name not in MATCHING:
            raise ValueError(f"there is no such matching rule; choose {', '.join(MATCHING)}")
        return name
