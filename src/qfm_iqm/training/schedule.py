"""Optimizer and learning-rate schedule, as in DEIQT and QFM-IQM (docs/method.md, section 10)."""

import math
import re

import torch
from torch import nn

from qfm_iqm.training.recipe_schema import TrainConfig

_BACKBONE = "encoder.backbone."
_NO_DECAY_TOKENS = ("pos_embed", "cls_token", "reg_token", "panel")


def build_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW without weight decay on 1-D parameters, position and class tokens, and the panel.

    Each parameter group has its own `peak` rate: `train.lr`; in the encoder's backbone,
    `train.backbone_lr` times `train.layer_decay` for each later block.
    """
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    blocks = 1 + max((_block(name) or 0 for name, _ in named), default=0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        peak = config.lr
        if _BACKBONE in name:
            block = _block(name)
            after = (blocks - 1 - block) if block is not None else blocks * _is_first(name)
            peak = (config.backbone_lr or config.lr) * config.layer_decay**after
        token = name.rsplit(".", 1)[-1] in _NO_DECAY_TOKENS
        decay = 0.0 if parameter.ndim <= 1 or token else config.weight_decay
        groups.setdefault((peak, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": peak, "peak": peak, "weight_decay": decay}
            for (peak, decay), parameters in groups.items()
        ]
    )


def _block(name: str) -> int | None:
    """The number of a parameter's backbone block; None if it is in no block."""
    found = re.search(r"encoder\.backbone\.blocks\.(\d+)\.", name)
    return None if found is None else int(found[1])


def _is_first(name: str) -> bool:
    """Whether a backbone parameter comes before the blocks, not after them."""
    layer = name.partition(_BACKBONE)[2]
    return not layer.startswith(("norm", "fc_norm", "head", "conv_head", "bn2"))


def rate_factor(epoch: float, config: TrainConfig) -> float:
    """Share of the peak learning rate after `epoch` epochs, which may be fractional.

    The rate warms up linearly from zero; the schedule then runs over the remaining epochs. With
    `warmup_prefix` False the schedule counts from the first epoch, and the warm-up replaces its
    beginning.
    """
    if epoch < config.warmup_epochs:
        return epoch / config.warmup_epochs
    begin = config.warmup_epochs if config.warmup_prefix else 0.0
    since = epoch - begin
    if config.schedule == "step":
        return float(config.decay ** math.floor(since / config.decay_epochs))
    span = max(config.epochs - begin, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, since / span)))
