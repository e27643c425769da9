"""Low-rank adapters: a backbone tuned by a small part of its weights (LoRA, Hu et al., 2022).

    W' = W + B A,   A (r, in) drawn, B (out, r) zero at first

for every linear layer; W stays as it is, A, B and the normalization layers are trained. Training
goes through peft's layers. Once trained, the product is added to W, so that a model in use is a
plain network at a plain network's cost.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qfm_iqm.errors import ModelError

_NORMS = (nn.LayerNorm, nn.GroupNorm, _BatchNorm)
_NAME = "default"  # peft's, of the one adapter of a layer
_A, _B = f".lora_A.{_NAME}.weight", f".lora_B.{_NAME}.weight"
_BASE = ".base_layer."


def add_adapters(backbone: nn.Module, rank: int) -> None:
    """Gives each linear layer that is trained an adapter, and leaves only these and norms to train.

    Layers whose weights are fixed already (`Encoder.freeze`) stay as they are.

    Args:
        backbone: changed in place.
        rank: r.

    Raises:
        ModelError: there is no linear layer to adapt.
    """
    from peft import LoraConfig, inject_adapter_in_model

    trained = {
        name: module
        for name, module in backbone.named_modules()
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    }
    layers = [name for name, module in trained.items() if isinstance(module, nn.Linear)]
    if not layers:
        raise ModelError(
            f"A backbone {type(backbone).__name__} has no linear layer for adapters: set "
            "backbone.tune to 'all' or 'none'."
        )
    backbone.requires_grad_(False)
    # alpha = r: what is added is B A itself.
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=layers)
    inject_adapter_in_model(config, backbone)
    for module in trained.values():
        if isinstance(module, _NORMS):
            module.requires_grad_(True)


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the plain network: each product added to its layer's weight.

    Args:
        state: of a network with adapters, or of one without, which is given back as it is.
    """
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith((_A, _B)):
            continue
        layer, base, what = key.partition(_BASE)
        if base and what == "weight":
            # In float64: the order of a matrix product's sums must not show in the weights.
            product = state[layer + _B].double() @ state[layer + _A].double()
            value = (value.double() + product).to(value.dtype)
        plain[f"{layer}.{what}" if base else key] = value
    return plain
