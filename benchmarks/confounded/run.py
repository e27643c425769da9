"""One run: trains a decoder on confounded crops and measures it on unconfounded ones.

Runs with the same seed share crops, order and initial weights. With a frozen backbone the memory
holds all training crops from the start, because their tokens never change; with adapters it is
first in, first out.

Shapes: M crops, B crops in a batch, N patch tokens, D token width.
"""

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from confounded.config import ConfoundingRecipe, Trial
from confounded.erasing import Erased
from confounded.measures import score_gap, srcc_within
from confounded.rules import VARIANTS, Variant, add
from confounded.tasks import Crops, Integers, Task
from confounded.tokens import crops_of, pooled
from qfm_iqm.image.preprocess_torch import eight_bits
from qfm_iqm.method.consistency import consistency
from qfm_iqm.method.matching import MATCHING, match_quality
from qfm_iqm.method.memory_bank import MemoryBank
from qfm_iqm.metrics.correlation import srcc
from qfm_iqm.model.adapters import add_adapters
from qfm_iqm.model.backbone import build_encoder
from qfm_iqm.model.decoder import build_decoder
from qfm_iqm.training.recipe_schema import TrainConfig
from qfm_iqm.training.schedule import build_optimizer, rate_factor

_KEPT = 4096  # decoded crops in memory, 150 KB each
_EVERY = 4  # one in this many test crops is used to measure noise sensitivity
_TAU = 0.25  # tau of these matches


class StoredTokens(nn.Module):
    """The encoder of a frozen backbone, which returns precomputed tokens."""

    def __init__(self, crops: Crops) -> None:
        super().__init__()
        self._crops = crops
        self.width = crops.tokens_MND.shape[-1]

    def forward(self, rows: Integers) -> Tensor:
        """The tokens (B, 1 + N, D) of rows."""
        return self._crops.tokens_MND[torch.from_numpy(rows)].float()


class AdaptedBackbone(nn.Module):
    """A backbone with adapters; maps rows of crops to tokens."""

    def __init__(
        self, crops: Crops, recipe: ConfoundingRecipe, state: dict[str, Tensor] | None, rank: int
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(recipe.backbone, crop=recipe.crop, state=state)
        add_adapters(self.encoder.backbone, rank)
        self.width, self._grid = self.encoder.width, recipe.grid

        @lru_cache(maxsize=_KEPT)
        def pixels(row: int) -> Tensor:
            sheet, place = crops.sources[row]
            one = sheet._replace(strengths=sheet.strengths[place : place + 1])
            return eight_bits(crops_of(one, side=recipe.side, crop=recipe.crop)[0])

        self._pixels = pixels

    def forward(self, rows: Integers) -> Tensor:
        """The tokens (B, 1 + N, D) of rows, averaged like the stored ones."""
        crops_BCSS = torch.stack([self._pixels(row) for row in rows.tolist()]).float() / 255
        return pooled(self.encoder(crops_BCSS), self._grid)


Encoder = StoredTokens | AdaptedBackbone | Erased


class Network(nn.Module):
    """Encoder and decoder of a run, and the scale of its labels."""

    def __init__(self, encoder: Encoder, labels: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = build_decoder("attention-panel", encoder.width, heads=None, panel=6)
        self.mean, self.std = float(labels.mean()), float(labels.std(correction=0))

    def standard(self, task: Task, rows: Integers) -> Tensor:
        """Labels (B,) of rows, in standard deviations of the training labels."""
        labels = (task.crops.labels[rows] - self.mean) / self.std
        return torch.from_numpy(labels).float()


def train(
    task: Task,
    name: str,
    options: Trial,
    *,
    seed: int,
    batch_size: int,
    adapted: tuple[ConfoundingRecipe, dict[str, Tensor] | None, int] | None = None,
) -> Network:
    """Trains one variant.

    Args:
        task: training data.
        name: name of the variant.
        options: training options.
        seed: seed of the order and the initial weights.
        batch_size: crops per step.
        adapted: recipe, backbone weights and rank of adapters; None for stored tokens.
    """
    variant = VARIANTS[name]
    torch.manual_seed(seed)
    encoder: Encoder = (
        StoredTokens(task.crops) if adapted is None else AdaptedBackbone(task.crops, *adapted)
    )
    network = Network(encoder, torch.from_numpy(task.crops.labels[task.train]))
    network.train()
    config = TrainConfig(lr=options.lr, epochs=options.epochs, schedule="cosine", warmup_epochs=0.5)
    optimizer = build_optimizer(network, config)
    contents_M = torch.from_numpy(
        task.crops.clusters if variant.other_cluster else task.crops.photos
    )
    if variant.erased:
        clusters_B = torch.from_numpy(task.crops.clusters[task.train])
        labels_B = network.standard(task, task.train)
        encoder = Erased(encoder, encoder.width, task.train, clusters_B, labels_B)
        network.encoder = encoder
    memory = MemoryBank(len(task.train))
    if variant.matching is not None and adapted is None:
        for rows in _batches(task.train, 512):
            memory.push(encoder(rows), network.standard(task, rows), contents_M[rows])
    steps = math.ceil(len(task.train) / batch_size)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(options.epochs):
        for step, rows in enumerate(_batches(order(task, variant, seed, epoch), batch_size)):
            done = epoch + step / steps
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate_factor(done, config)
            tokens_BND, labels_B = encoder(rows), network.standard(task, rows)
            if variant.matching is None:
                loss = functional.smooth_l1_loss(network.decoder(tokens_BND), labels_B)
            else:
                if adapted is not None:
                    memory.push(tokens_BND, labels_B, contents_M[rows])
                matches = MATCHING[variant.matching](
                    tokens_BND[:, 0].detach(), labels_B, contents_M[rows], memory,
                    tau=options.tau, top_k=options.top_k, generator=generator,
                )  # fmt: skip
                perturbed_BND = add(
                    tokens_BND, matches.tokens_BND, matches.found_B, alpha=options.alpha,
                    keep_statistics=variant.keep_statistics,
                )  # fmt: skip
                both = network.decoder(torch.cat([tokens_BND, perturbed_BND]))
                own_B, perturbed_B = both.chunk(2)
                term = consistency(perturbed_B, own_B, labels_B, target=variant.target)
                loss = functional.smooth_l1_loss(own_B, labels_B) + min(1.0, done) * term
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimizer.step()
    return network.eval()


def order(task: Task, variant: Variant, seed: int, epoch: int) -> Integers:
    """The rows of an epoch: each once or, if balanced, drawn equally often from each group."""
    draw = np.random.default_rng([seed, epoch])
    shuffled = draw.permutation(task.train)
    if not variant.balanced:
        return shuffled
    group = 2 * task.crops.clusters[task.train] + (task.crops.sides[task.train] > 0)
    counts = np.bincount(group, minlength=4)
    share = 1 / (counts[group] * np.count_nonzero(counts))
    return draw.choice(task.train, len(task.train), p=share)


@torch.inference_mode()
def encode(network: Network, rows: Integers) -> Tensor:
    """Tokens (M, 1 + N, D) of rows, in float16 like the stored ones."""
    return torch.cat([network.encoder(batch).half() for batch in _batches(rows, 256)])


@torch.inference_mode()
def decode(network: Network, tokens_MND: Tensor) -> Tensor:
    """Predictions (M,) for tokens, in standard deviations of the training labels."""
    return torch.cat([network.decoder(part.float()) for part in tokens_MND.split(256)])


def validation_srcc(network: Network, task: Task) -> float:
    """SRCC on the confounded validation crops, as a practitioner would measure it."""
    scores = decode(network, encode(network, task.validation)).double().numpy()
    return srcc(scores, task.crops.labels[task.validation])


@torch.inference_mode()
def test_figures(network: Network, task: Task, alpha: float) -> dict[str, float]:
    """All measures on the unconfounded test crops.

    Args:
        network: the trained network.
        task: task with the test crops.
        alpha: alpha for measuring noise sensitivity.
    """
    crops, rows = task.crops, task.test
    tokens_MND = encode(network, rows)
    scores = decode(network, tokens_MND)
    labels = network.standard(task, rows).double().numpy()
    values, clusters = scores.double().numpy(), crops.clusters[rows]
    first, second = srcc_within(values, labels, clusters)
    figures = {
        "srcc_a": first,
        "srcc_b": second,
        "srcc": (first + second) / 2,
        "gap": score_gap(values, labels, clusters, crops.cells[rows], task.upper),
    }
    some_MND, labels_M = tokens_MND[::_EVERY], network.standard(task, rows[::_EVERY])
    photos_M = torch.from_numpy(crops.photos[rows[::_EVERY]])
    memory = MemoryBank(len(some_MND))
    memory.push(some_MND, labels_M, photos_M)
    own_M, changes = decode(network, some_MND), []
    for part in torch.arange(len(some_MND)).split(256):
        tokens_BND = some_MND[part].float()
        found = match_quality(tokens_BND[:, 0], labels_M[part], photos_M[part], memory, tau=_TAU)
        noisy_BND = add(tokens_BND, found.tokens_BND, found.found_B, alpha=alpha)
        changes.append((network.decoder(noisy_BND) - own_M[part]).abs())
    figures["noise_sensitivity"] = float(torch.cat(changes).mean())
    if (crops.clean[rows] != rows).any():
        clean = np.unique(crops.clean[rows])
        of_clean = decode(network, encode(network, clean))[
            np.searchsorted(clean, crops.clean[rows])
        ]
        figures["quality_sensitivity"] = float((of_clean - scores).abs().mean())
        figures["selectivity"] = figures["quality_sensitivity"] / figures["noise_sensitivity"]
    return figures


def _batches(rows: Integers, size: int) -> Iterator[Integers]:
    """Yields rows in groups of `size`; the last group may be smaller."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
