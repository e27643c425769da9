import hashlib
import re

import pytest
import torch

from qfm_iqm.errors import ModelError
from qfm_iqm.model.adapters import add_adapters, merged
from qfm_iqm.model.delta import content_hash, pack, unpack
from qfm_iqm.model.network import QualityNetwork


def tuned(rank=4):
    """A tiny network before and after its adapters and norms were trained."""
    torch.manual_seed(0)
    network = QualityNetwork("test_vit", crop=48)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    add_adapters(network.encoder.backbone, rank)
    draw = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=draw)
    return before, merged(network.state_dict())


def test_the_content_hash_is_of_the_numbers():
    state = {"b": torch.tensor([1.5]), "a": torch.arange(3)}
    digest = hashlib.sha256()
    digest.update(b"a (3,) torch.int64\n" + torch.arange(3).numpy().tobytes())
    digest.update(b"b (1,) torch.float32\n" + torch.tensor([1.5]).numpy().tobytes())
    assert content_hash(state) == digest.hexdigest()
    assert content_hash(dict(reversed(state.items()))) == digest.hexdigest()
    assert content_hash(state | {"b": torch.tensor([1.25])}) != digest.hexdigest()


def test_adapters_are_found_again_in_the_merged_weights():
    before, after = tuned(rank=4)
    again = unpack(pack(after, before, rank=4), before)
    assert again.keys() == after.keys()
    for key, value in after.items():
        assert torch.allclose(again[key], value, atol=1e-6), key


def test_only_what_changed_is_kept_of_the_backbone():
    before, after = tuned(rank=4)
    packed = pack(after, before, rank=4)
    kept = {key for key in packed if key.startswith("encoder.backbone.")}
    assert "encoder.backbone.patch_embed.proj.weight" not in kept
    assert "encoder.backbone.norm.weight" in kept
    assert "encoder.backbone.blocks.0.attn.qkv.weight" not in kept
    assert packed["encoder.backbone.blocks.0.attn.qkv.weight.packed_a"].shape == (4, 64)
    numbers = sum(value.numel() for key, value in packed.items() if key in kept)
    whole = sum(v.numel() for k, v in after.items() if k.startswith("encoder.backbone."))
    assert numbers < 0.3 * whole
    assert {key for key in after if key.startswith("decoder.")} <= packed.keys()


def test_a_change_of_higher_rank_is_not_lost_in_silence():
    before, after = tuned(rank=8)
    key = "encoder.backbone.blocks.0.attn.qkv.weight"
    strengths = torch.linalg.svdvals(after[key].double() - before[key].double())
    share = (strengths[4:].norm() / strengths.norm()).item()
    with pytest.raises(ModelError, match=r"Rank 4 would leave \d\d\.\d% out") as error:
        pack(after, before, rank=4)
    left_out = float(re.search(r"[\d.]+(?=%)", str(error.value))[0]) / 100
    assert left_out + 0.0005 >= share > 0.3
