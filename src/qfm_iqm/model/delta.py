"""A model as the small part that was trained, to be put upon a public backbone at loading.

Of a network tuned by adapters (`model.adapters`) each linear layer is W + B A: the public weight
and a product of low rank. Such a model is kept without W: the two factors of each change, what
else of the backbone was changed (its norms), and all that stands behind the backbone. Factors are
found again from the merged weights, as the change's singular vectors, so that any model folder can
be packed; a change of higher rank is refused.

    W' - W = U S V^T,   B = U sqrt(S), A = sqrt(S) V^T   (first r singular values)
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from qfm_iqm.errors import ModelError

BACKBONE = "encoder.backbone."
_A, _B = ".packed_a", ".packed_b"
_EXACT = 1e-3  # of a change that rank r may leave out: rounding leaves less, training more


def content_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights, whatever file they came in: keys in order, with shape and numbers."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def add_weights(digest: Any, named: Iterable[tuple[str, Tensor]], prefix: str = "") -> None:
    """Adds weights to a digest that names what was computed by them: names, shapes and numbers."""
    for key, value in sorted(named):
        digest.update(f"{prefix}{key}:{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())


def pack(
    state: Mapping[str, Tensor], base: Mapping[str, Tensor], rank: int
) -> tuple[dict[str, Tensor], float]:
    """The part of a network that its public backbone does not hold.

    Args:
        state: of the network, adapters merged.
        base: of the same network with the public weights of its backbone.
        rank: r of the factors kept; a matrix for which they would be no smaller is kept whole.

    Returns:
        The packed state, and the largest share (Frobenius norm) that was left out of a change.
    """
    packed: dict[str, Tensor] = {}
    left_out = 0.0
    for key, value in state.items():
        if not key.startswith(BACKBONE):
            packed[key] = value
            continue
        public = base[key]
        change = value.double() - public.double()
        if not change.any():
            continue
        if value.ndim != 2 or rank * sum(value.shape) >= value.numel():
            packed[key] = value
            continue
        u, s, vh = torch.linalg.svd(change, full_matrices=False)
        root = s[:rank].sqrt()
        packed[key + _B] = (u[:, :rank] * root).to(value.dtype)
        packed[key + _A] = (root[:, None] * vh[:rank]).to(value.dtype)
        left_out = max(left_out, (s[rank:].norm() / s.norm()).item())
    return packed, left_out


def check_loss(left_out: float, rank: int, allowed: float = _EXACT) -> None:
    """Refuses to leave more out of a change than is allowed.

    Raises:
        ModelError: says how much it is.
    """
    if left_out > allowed:
        raise ModelError(
            f"Rank {rank} would leave {left_out:.1%} out of what training changed in a layer: "
            "train with backbone.tune = 'adapters', or take a higher backbone.rank."
        )


def unpack(packed: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The whole network's state: public weights, changes added.

    Args:
        packed: as `pack` gave it.
        base: of the network with the same public weights.
    """
    state = dict(base)
    for key, value in packed.items():
        if key.endswith(_A):
            continue
        if key.endswith(_B):
            layer = key.removesuffix(_B)
            # In float64: the order of a matrix product's sums must not show in the weights.
            change = value.double() @ packed[layer + _A].double()
            state[layer] = (state[layer].double() + change).float()
        else:
            state[key] = value
    return state
