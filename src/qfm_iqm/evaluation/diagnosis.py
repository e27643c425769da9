"""Measures how much a model reacts to semantics and to quality (docs/method.md, section 9).

For a model D(E(x)) and rated images x_i with labels y_i,

    aliasing: the share of nearest neighbors in feature space with very different quality
              (`metrics.aliasing`), for the trained encoder and for the public backbone,
    S_n = mean_i |D(F_i + alpha F_j*(i)) - D(F_i)|,   j* matched by the `quality` rule,
    S_q = mean_i,d,l |D(E(x_i)) - D(E(degrade(x_i; d, l)))|,
    selectivity = S_q / S_n.

A small S_n alone proves nothing: a constant network has S_n = 0. Models are compared at the same
alpha on the same images.

Design choices (ours):
* The semantic descriptor of an image is its class token, averaged over the covering crops.
* S_n and S_q are both measured on the center crop, so that their ratio is meaningful. The crop is
  degraded at the size the network sees, so that a level means the same for every photo.
* Matching and perturbation use the training code, over a `MemoryBank` of all center crops. Images
  are streamed; only one crop's bfloat16 tokens per image (1.5 GB for 10,000 images and a ViT-S) and
  its descriptors are kept.
* Predictions are in standard deviations of the model's training labels; label gaps (aliasing, tau)
  are in standard deviations of the given labels, because a table may have other units.
* Noise depends only on the seed and the image's name, not on order, neighbors or batches.

Shapes: M images, B crops in a batch, N patch tokens, D token width, S crop size.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import ModelError, QFMError, TableError
from qfm_iqm.files import text_hash
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.distortions import LEVELS
from qfm_iqm.image.preprocess_torch import (
    center_square,
    covering_crops,
    distort_tensor,
    resize_and_pad,
)
from qfm_iqm.method.consistency import perturb
from qfm_iqm.method.matching import match_quality
from qfm_iqm.method.memory_bank import MemoryBank
from qfm_iqm.metrics.aliasing import aliasing, check_rated
from qfm_iqm.metrics.diagnosis import Diagnosis, Response
from qfm_iqm.model.backbone import Encoder, TimmEncoder
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.model.weights import backbone_state

DEGRADATIONS = ("gaussian blur", "jpeg", "white noise")
"""Kinds in `LEVELS` that S_q averages over, each at all five strengths."""

BATCH = 32  # crops per forward pass; does not change the figures

Progress = Callable[[Iterator[Path], int], Iterator[Path]]


@torch.inference_mode()
def diagnose(
    model: QualityModel,
    images: RatedTable,
    root: Path,
    *,
    alpha: float = 0.1,
    tau: float = 0.25,
    neighbors: int = 10,
    backbone: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Diagnosis:
    """Diagnoses a model on rated images.

    Args:
        model: the model; it runs on its current device and is put in evaluation mode.
        images: rated images.
        root: base folder of the images' names.
        alpha: weight of the added features.
        tau: largest label difference of a match, in standard deviations of the given labels.
        neighbors: number of nearest neighbors for aliasing.
        backbone: also measure the public backbone's features, if its weights are available.
        seed: seed of the noise.
        progress: wraps the iterator over files; also gets their number.

    Raises:
        QFMError: `alpha` or `tau` is out of range.
        TableError: labels are missing or constant, there are too few images, or names match no
            file.
        ImageError: an image cannot be read.
        ModelError: the model's predictions are not finite numbers.
    """
    for name, value in (("alpha", alpha), ("tau", tau)):
        if not 0 <= value < math.inf:
            raise QFMError(f"{name} must be a number of at least 0, not {value}.")
    if images.mos is None:
        raise TableError(f"{images.source} has no labels to diagnose a model with.")
    check_rated(images.mos, images.contents, neighbors)
    paths = images.paths(root)
    network, preprocessing = model.eval().network, model.card.preprocessing
    encoders, missing = [network.encoder], "It was not requested."
    if backbone:
        try:
            encoders.append(public_backbone(network))
            missing = ""
        except ModelError as error:
            missing = str(error)

    device = network.scale.mean.device
    standard = (images.mos - images.mos.mean()) / images.mos.std()
    content_ids = np.unique(np.asarray(images.contents), return_inverse=True)[1]
    labels_M = torch.tensor(standard, dtype=torch.float32, device=device)
    contents_M = torch.tensor(content_ids, device=device)
    direction = 1 if model.card.label.higher_is_better else -1
    asked = [(kind, level + 1) for kind in DEGRADATIONS for level in range(len(LEVELS[kind]))]
    memory = MemoryBank(len(images))
    descriptors: list[list[Tensor]] = [[] for _ in encoders]
    drops_MR = torch.empty(len(images), len(asked), dtype=torch.float64)
    coming = iter(paths) if progress is None else progress(iter(paths), len(paths))
    for i, path in enumerate(coming):
        image_CHW = resize_and_pad(read_image(path), preprocessing)
        crops = list(covering_crops(image_CHW, preprocessing))
        for encoder, found in zip(encoders, descriptors, strict=True):
            found.append(_descriptor(encoder, crops, network.scale.mean.device))
        center_CSS = center_square(image_CHW, preprocessing.crop)
        noise = zlib.crc32(f"{seed}:{images.names[i]}".encode())
        degraded = [distort_tensor(center_CSS, kind, level, noise) for kind, level in asked]
        tokens_1ND, predictions = _predictions(network, [center_CSS, *degraded])
        if not predictions.isfinite().all():
            raise ModelError(f"The model's predictions for {path} are not finite numbers.")
        drops_MR[i] = direction * (predictions[0] - predictions[1:])
        memory.push(tokens_1ND, labels_M[i : i + 1], contents_M[i : i + 1])

    noise_sensitivity, fallbacks = _noise_sensitivity(network, memory, alpha, tau)
    spaces = [
        aliasing(torch.stack(found).numpy(), images.mos, images.contents, neighbors=neighbors)
        for found in descriptors
    ]
    changes, drops = drops_MR.abs().mean(0).tolist(), drops_MR.mean(0).tolist()
    responses = tuple(
        Response(kind, level, LEVELS[kind][level - 1], change, drop)
        for (kind, level), change, drop in zip(asked, changes, drops, strict=True)
    )
    return Diagnosis(
        model=model.card.name,
        weights_sha256=model.card.weights_sha256,
        names=images.names,
        mos=tuple(images.mos.tolist()),
        trained=spaces[0],
        backbone=spaces[1] if len(spaces) > 1 else None,
        backbone_missing=missing,
        noise_sensitivity=noise_sensitivity,
        fallbacks=fallbacks,
        responses=responses,
        alpha=alpha,
        tau=tau,
        seed=seed,
    )


def sample(table: RatedTable, images: int, seed: int = 0) -> RatedTable:
    """At most `images` rows of a table: those with the smallest SHA-256 of '<seed>:<name>'."""
    if len(table) <= images:
        return table
    order = sorted(
        range(len(table)),
        key=lambda row: text_hash(f"{seed}:{table.names[row]}"),
    )
    return table.select(sorted(order[:images]))


def public_backbone(network: QualityNetwork) -> TimmEncoder:
    """The network's encoder before any training on quality, without projection.

    Raises:
        ModelError: the public weights are not available.
    """
    config = network.config
    state = backbone_state(None, config.backbone)
    encoder = TimmEncoder(config.backbone, crop=config.crop, state=state)
    return encoder.to(network.scale.mean.device).eval()


def _descriptor(encoder: Encoder, crops: Sequence[Tensor], device: torch.device) -> Tensor:
    """The mean class token (D,) over crops, in float64."""
    parts = [encoder(crops_BCSS)[:, 0].cpu() for crops_BCSS in _batches(crops, device)]
    return torch.cat(parts).double().mean(0)


def _predictions(network: QualityNetwork, crops: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The first crop's tokens (1, 1 + N, D), and predictions for all crops in standard units."""
    first_1ND, predictions = None, []
    for crops_BCSS in _batches(crops, network.scale.mean.device):
        tokens_BND = network.encode(crops_BCSS)
        predictions.append(network.decoder(tokens_BND).cpu())
        first_1ND = tokens_BND[:1] if first_1ND is None else first_1ND
    assert first_1ND is not None
    return first_1ND, torch.cat(predictions).double()


def _noise_sensitivity(
    network: QualityNetwork, memory: MemoryBank, alpha: float, tau: float
) -> tuple[float, int]:
    """S_n over all entries of a memory, matched within the memory, and the number of fallbacks."""
    changes, fallbacks = [], 0
    for start in range(0, len(memory), BATCH):
        rows = slice(start, start + BATCH)
        tokens_BND = memory.tokens_MND[rows].float()
        labels_B, contents_B = memory.labels_M[rows], memory.contents_M[rows]
        matches = match_quality(tokens_BND[:, 0], labels_B, contents_B, memory, tau=tau)
        perturbed_BND = perturb(tokens_BND, matches.tokens_BND, matches.found_B, alpha=alpha)
        change_B = network.decoder(perturbed_BND) - network.decoder(tokens_BND)
        changes.append(change_B.abs().cpu())
        fallbacks += int(matches.fallback_B.sum())
    return torch.cat(changes).double().mean().item(), fallbacks


def _batches(crops: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yields crops as batches (B, 3, S, S) on the network's device."""
    for start in range(0, len(crops), BATCH):
        yield torch.stack(list(crops[start : start + BATCH])).to(device)
