"""What a diagnosis found of a model, as plain data (docs/method.md, section 9).

Computed by `evaluation.diagnosis`; drawn by `report.diagnosis_figure`. Sensitivities are mean
absolute changes of a model's predictions, in standard deviations of the labels it was trained on:

    S_n  another image's features added to the image's own,
    S_q  the image degraded,
    selectivity = S_q / S_n.
"""

from dataclasses import asdict, dataclass
from typing import Any

from qfm_iqm.metrics.aliasing import Aliasing

_NO_CHANGE = 1e-6  # standard deviations: less is rounding


@dataclass(frozen=True)
class Response:
    """What a degradation at one strength does to a model's predictions.

    Attributes:
        distortion: its name.
        level: 1 (just visible) to 5 (severe).
        strength: the level's parameter, see `image.distortions.LEVELS`.
        change: mean of |q(x) - q(degraded x)|, in standard deviations.
        drop: mean of what quality loses; as large as `change` if no image is said to gain.
    """

    distortion: str
    level: int
    strength: float
    change: float
    drop: float


@dataclass(frozen=True)
class Diagnosis:
    """What was found of a model.

    Attributes:
        model: its name.
        weights_sha256: of its weights.
        names: of the images it was diagnosed on; aliased pairs hold their places.
        mos: their labels.
        trained: aliasing of the trained encoder's features.
        backbone: of the public backbone's; None without it.
        backbone_missing: why there is none, in a sentence; empty if there is.
        noise_sensitivity: S_n.
        fallbacks: images without a match of like quality, matched with the nearest label.
        responses: one per degradation and level; their mean change is S_q.
        alpha: weight of the matched features that were added.
        tau: largest label difference of a match, in standard deviations of the labels.
        seed: of the degradations' noise.
    """

    model: str
    weights_sha256: str
    names: tuple[str, ...]
    mos: tuple[float, ...]
    trained: Aliasing
    backbone: Aliasing | None
    backbone_missing: str
    noise_sensitivity: float
    fallbacks: int
    responses: tuple[Response, ...]
    alpha: float
    tau: float
    seed: int

    @property
    def by_distortion(self) -> dict[str, list[Response]]:
        """The responses to each degradation, from level to level."""
        kinds = dict.fromkeys(response.distortion for response in self.responses)
        return {
            kind: [response for response in self.responses if response.distortion == kind]
            for kind in kinds
        }

    @property
    def quality_sensitivity(self) -> float:
        """S_q, in the units of S_n."""
        return sum(response.change for response in self.responses) / len(self.responses)

    @property
    def selectivity(self) -> float | None:
        """S_q / S_n; None where it does not exist."""
        if self.noise_sensitivity < _NO_CHANGE:
            return None
        return self.quality_sensitivity / self.noise_sensitivity

    @property
    def selectivity_missing(self) -> str:
        """Why there is no selectivity, in a sentence; empty if there is."""
        if self.selectivity is not None:
            return ""
        if self.alpha == 0:
            reason = "with alpha = 0 nothing was added to the features."
        elif self.quality_sensitivity < _NO_CHANGE:
            reason = "the model's predictions change with nothing."
        else:
            reason = "the model's predictions do not change with added semantics."
        return f"Selectivity does not exist: {reason}"

    def as_dict(self) -> dict[str, Any]:
        """All figures and settings as plain values, for JSON."""
        return {
            "model": self.model,
            "weights_sha256": self.weights_sha256,
            "settings": {
                "images": len(self.names),
                "alpha": self.alpha,
                "tau": self.tau,
                "neighbors": self.trained.neighbors,
                "threshold": self.trained.threshold,
                "seed": self.seed,
            },
            "aliasing": {
                "random_pairs": self.trained.random_rate,
                "trained": self._aliasing(self.trained),
                "backbone": None if self.backbone is None else self._aliasing(self.backbone),
                "backbone_missing": self.backbone_missing,
            },
            "noise_sensitivity": self.noise_sensitivity,
            "fallbacks": self.fallbacks,
            "quality_sensitivity": self.quality_sensitivity,
            "selectivity": self.selectivity,
            "selectivity_missing": self.selectivity_missing,
            "responses": [asdict(response) for response in self.responses],
        }

    def _aliasing(self, found: Aliasing) -> dict[str, Any]:
        pairs = [
            {
                "names": [self.names[pair.first], self.names[pair.second]],
                "mos": [self.mos[pair.first], self.mos[pair.second]],
                "similarity": pair.similarity,
                "label_gap": pair.label_gap,
            }
            for pair in found.pairs
        ]
        return {"rate": found.rate, "pairs": pairs}
