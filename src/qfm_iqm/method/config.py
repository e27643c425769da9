"""The options of the training method, as a recipe holds them; light to import."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class MethodConfig(BaseModel):
    """The training method, with the defaults of docs/method.md.

    Attributes:
        kind: "baseline" trains on labels alone, "qfm" adds memory, matching and consistency.
        memory: entries in the memory bank.
        matching: rule by which a crop's semantic noise is chosen, a name in `matching.MATCHING`.
            "quality" (the ICML text): like quality, unlike content; "semantics" (arXiv v1): like
            semantics, unlike quality. As controls, "like_quality" and "unlike_semantics": half of
            "quality" each; "random": any other content; "gaussian": noise of the norm that
            "quality" would add.
        tau: largest label difference of a "quality" match, in standard deviations of the labels.
        delta: smallest label difference of a "semantics" match, in the same units.
        top_k: a match is drawn uniformly among the k best.
        alpha: weight of the matched features that are added.
        tokens: which tokens are perturbed.
        renormalize: bring each perturbed token back to the norm it had.
        target: what the perturbed prediction should be: the crop's own prediction ("own"), the
            same with gradient ("own_gradient"), or the label ("label").
        w_qcc: weight of the consistency term of supervised crops.
        w_u: weight of all terms of unlabeled crops (DLE).
        w_pl: weight, within these, of regression on the teacher's pseudo-label.
        noise_from: whose features enter the memory bank: supervised crops, unlabeled ones, or both.
        start_epoch: epochs before the consistency term sets in.
        ramp_epochs: epochs over which its weight then rises linearly from zero.
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
    ramp_epochs: float = Field(default=1.0, ge=0)

    @field_validator("matching")
    @classmethod
    def _known_rule(cls, name: str) -> str:
        # Here, not above: a recipe is read and refused before torch is imported.
        from qfm_iqm.method.matching import MATCHING

        if name not in MATCHING:
            raise ValueError(
                f"there is no matching rule of that name; choose {', '.join(MATCHING)}"
            )
        return name
