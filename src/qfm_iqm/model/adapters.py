"""Low-rank adapters: fine-tuning with few trained weights (LoRA, Hu et al., 2022).

    W' = W + B A,   A (r, in) random, B (out, r) initially zero

for every linear layer. W is frozen; A, B and the normalization layers are trained, with peft's
layers. After training the product is added to W, so that inference runs the plain network.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qfm_iqm.errors import ModelError

_NORMS = (nn.LayerNorm, nn.GroupNorm, _BatchNorm)
_NAME = "default"  # peft's name of a layer's only adapter
_A, _B = f".lora_A.{_NAME}.weight", f".lora_B.{_NAME}.weight"
_BASE = ".base_layer."


def add_adapters(backbone: nn.Module, rank: int) -> None:
    """Adds an adapter to each trainable linear layer; only adapters and norms stay trainable.

    Layers that are already frozen (`Encoder.freeze`) are left unchanged.

    Args:
        backbone: changed in place.
        rank: rank r of the adapters.

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
    # With alpha = r, peft's scaling of B A is 1.
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=layers)
    inject_adapter_in_model(config, backbone)
    for module in trained.values():
        if isinstance(module, _NORMS):
            module.requires_grad_(True)


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the plain network, with each product B A added to its layer's weight.

    Args:
        state: state of a network; without adapters it is returned unchanged.
    """
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith((_A, _B)):
            continue
        layer, base, what = key.partition(_BASE)
        if base and what == "weight":
            # In float64, so that the summation order does not change the weights.
            product = state[layer + _B].double() @ state[layer + _A].double()
            value = (value.double() + product).to(value.dtype)
        plain[f"{layer}.{what}" if base else key] = value
    return plain
