"""The mean of several models' weights: one model, as quick as each of them.

Models that were trained on from the same weights tend to lie in one valley of the loss, and its
middle may be better than its sides (Izmailov et al., 2018: stochastic weight averaging; Wortsman et
al., 2022: model soups). Models of different beginnings have no such middle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from qfm_iqm.errors import ModelError
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.network import QualityNetwork

_ALIKE = 0.5  # least cosine between decoders; those of different seeds are near 0


def averaged(models: Sequence[QualityModel]) -> QualityModel:
    """Averages models that were trained on from the same weights.

    Args:
        models: two at least, adapters merged, without second opinions.

    Returns:
        A new model with the first one's card, and in it the weights that it was made from. What
        the card says of its figures and of what its scores mean holds no more, and is left out.

    Raises:
        ModelError: models of different networks, crops, labels or beginnings, or of a kind that
            has no mean.
    """
    first, *others = models
    if not others:
        raise ModelError("An average takes two models at least.")
    if first.network.statistics is not None:
        raise ModelError("A second opinion has no average: give it to the average afterwards.")
    if any(isinstance(part, nn.BatchNorm2d) for part in first.network.modules()):
        raise ModelError(
            f"'{first.card.name}' has batch normalisation, and what that has measured of one "
            "network's features is not so of an average's."
        )
    for other in others:
        _check_alike(first, other)
    states = [model.network.state_dict() for model in models]
    network = QualityNetwork(**first.card.network.model_dump())
    network.load_state_dict({key: _mean([state[key] for state in states]) for key in states[0]})
    sources = [model.card.weights_sha256 for model in models]
    card = first.card.of_new_weights(training=first.card.training | {"average_of": sources})
    return QualityModel(network, card).eval()


def _check_alike(first: QualityModel, other: QualityModel) -> None:
    names = f"'{first.card.name}' and '{other.card.name}'"
    for what in ("network", "preprocessing", "label"):
        if getattr(first.card, what) != getattr(other.card, what):
            raise ModelError(f"{names} have no average: their cards differ in '{what}'.")
    scales = [model.network.scale.state_dict() for model in (first, other)]
    if any(not torch.equal(value, scales[1][key]) for key, value in scales[0].items()):
        raise ModelError(f"{names} have no average: they were trained on labels of another scale.")
    one, two = (_flat(model.network.decoder) for model in (first, other))
    if functional.cosine_similarity(one, two, dim=0) < _ALIKE:
        raise ModelError(
            f"{names} have no average: they were not trained on from the same weights (their "
            "decoders have nothing in common)."
        )


def _flat(part: nn.Module) -> Tensor:
    """The weights of a module's layers; normalisations begin alike in all networks."""
    return torch.cat([weight.detach().flatten() for weight in part.parameters() if weight.ndim > 1])


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0) if values[0].is_floating_point() else values[0]
