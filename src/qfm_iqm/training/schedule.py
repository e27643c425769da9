"""Optimiser and learning-rate schedule of the paper's lineage (docs/method.md, section 10)."""

from __future__ import annotations

import math

import torch
from torch import nn

from qfm_iqm.training.recipe_schema import TrainConfig

_NO_DECAY_TOKENS = ("pos_embed", "cls_token", "reg_token", "panel")


def build_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; weight decay spares 1-D parameters, position and class tokens, and the panel."""
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            token = name.rsplit(".", 1)[-1] in _NO_DECAY_TOKENS
            (spared if parameter.ndim <= 1 or token else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr)


def rate_factor(epoch: float, config: TrainConfig) -> float:
    """Share of the peak learning rate after `epoch` epochs, with fraction.

    Linear warm-up from zero, then the schedule over the epochs that remain: the warm-up is a
    prefix and does not shift the decay. With `warmup_prefix` False the schedule counts from the
    first epoch, and the warm-up only covers its beginning.
    """
    if epoch < config.warmup_epochs:
        return epoch / config.warmup_epochs
    begin = config.warmup_epochs if config.warmup_prefix else 0.0
    since = epoch - begin
    if config.schedule == "step":
        return float(config.decay ** math.floor(since / config.decay_epochs))
    span = max(config.epochs - begin, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, since / span)))
