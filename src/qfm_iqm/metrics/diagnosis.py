"""Results of a model diagnosis as plain data (docs/method.md, section 9).

`evaluation.diagnosis` computes them; `report.diagnosis_figure` plots them. Sensitivities are mean
absolute changes of a model's predictions, in standard deviations of its training labels:

    S_n  when another image's features are added,
    S_q  when the image is degraded,
    selectivity = S_q / S_n.
"""

from dataclasses import asdict, dataclass
from typing import Any

from qfm_iqm.metrics.aliasing import Aliasing

_NO_CHANGE = 1e-6  # standard deviations; smaller changes are rounding


@dataclass(frozen=True)
class Response:
    """The effect of a degradation at one strength on a model's predictions.

    Attributes:
        distortion: name of the degradation.
        level: 1 (just visible) to 5 (severe).
        strength: parameter of the level; see `image.distortions.LEVELS`.
        change: mean of |q(x) - q(degraded x)|, in standard deviations.
        drop: mean loss of quality; equal to `change` if no prediction improves.
    """

    distortion: str
    level: int
    strength: float
    change: float
    drop: float


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of a model.

    Attributes:
        model: name of the model.
        weights_sha256: hash of its weights.
        names: names of the diagnosed images; aliased pairs are indices into them.
        mos: labels of the images.
        trained: aliasing of the trained encoder's features.
        backbone: aliasing of the public backbone's features; None if not measured.
        backbone_missing: a sentence that says why `backbone` is None; else empty.
        noise_sensitivity: S_n.
        fallbacks: images without a match of similar quality, matched by the nearest label.
        responses: one per degradation and level; their mean change is S_q.
        alpha: weight of the added features.
        tau: largest label difference of a match, in standard deviations of the labels.
        seed: seed of the degradations' noise.
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
        """The responses to each degradation, ordered by level."""
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
        """S_q / S_n; None if it is undefined."""
        if self.noise_sensitivity < _NO_CHANGE:
            return None
        return self.quality_sensitivity / self.noise_sensitivity

    @property
    def selectivity_missing(self) -> str:
        """A sentence that says why `selectivity` is None; else empty."""
        if self.selectivity is not None:
            return ""
        if self.alpha == 0:
            reason = "with alpha = 0, nothing is added to the features."
        elif self.quality_sensitivity < _NO_CHANGE:
            reason = "the model's predictions never change."
        else:
            reason = "the model's predictions do not change with added semantics."
        return f"Selectivity is undefined: {reason}"

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
