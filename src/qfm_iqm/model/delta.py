"""Packed models: only the trained change is saved, and added to a public backbone at loading.

In a network tuned with adapters (`model.adapters`) each linear layer is W + B A: the public weight
plus a low-rank product. A packed model leaves W out. It holds the two factors of each change, the
other changed weights of the backbone (its norms), and everything after the backbone. The factors
are computed from the merged weights by a singular value decomposition of the change, so that any
model folder can be packed; a change of higher rank is refused.

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
_EXACT = 1e-3  # share of a change that rank r may leave out: above rounding, below training


def content_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights, independent of their file: sorted keys, shapes, types and values."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def add_weights(digest: Any, named: Iterable[tuple[str, Tensor]], prefix: str = "") -> None:
    """Adds the names, shapes and values of weights to a digest."""
    for key, value in sorted(named):
        digest.update(f"{prefix}{key}:{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())


def pack(state: Mapping[str, Tensor], base: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The part of a network that differs from its public backbone.

    Args:
        state: state of the network, with adapters merged.
        base: state of the same network with the public backbone weights.
        rank: rank r of the factors; a matrix is kept whole where factors would not be smaller.

    Returns:
        The packed state.

    Raises:
        ModelError: the factors leave out more of a change (as a share of its Frobenius norm) than
            rounding explains; the message says how much.
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
    if left_out > _EXACT:
        raise ModelError(
            f"Rank {rank} would leave {left_out:.1%} out of what training changed in a layer: "
            "train with backbone.tune = 'adapters', or choose a higher backbone.rank."
        )
    return packed


def unpack(packed: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the whole network: public weights plus changes.

    Args:
        packed: a state from `pack`.
        base: state of the network with the same public weights.
    """
    state = dict(base)
    for key, value in packed.items():
        if key.endswith(_A):
            continue
        if key.endswith(_B):
            layer = key.removesuffix(_B)
            # In float64, so that the summation order does not change the weights.
            change = value.double() @ packed[layer + _A].double()
            state[layer] = (state[layer].double() + change).float()
        else:
            state[key] = value
    return state
