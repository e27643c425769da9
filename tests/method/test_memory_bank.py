"""The memory bank against a plain list, and its bfloat16 against the bits of float32."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qfm_iqm.method.memory_bank import MemoryBank, memory_bytes

TOKENS, WIDTH = 3, 4


def as_bfloat16(values):
    """Round to nearest, ties to even, on the bits: bfloat16 is the upper half of float32."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


def batch(first, size, seed=0):
    """`size` entries whose content ids count up from `first`."""
    draw = np.random.default_rng([seed, first])
    tokens = torch.tensor(draw.normal(size=(size, TOKENS, WIDTH)), dtype=torch.float32)
    return tokens, torch.tensor(draw.normal(size=size)), torch.arange(first, first + size)


def entries(memory):
    return {
        content: (tokens.float().numpy(), label)
        for content, label, tokens in zip(
            memory.contents_M.tolist(), memory.labels_M.tolist(), memory.tokens_MND, strict=True
        )
    }


@given(capacity=st.integers(1, 7), sizes=st.lists(st.integers(1, 16), min_size=1, max_size=8))
@settings(deadline=None)
def test_holds_the_last_entries_pushed_as_a_list_would(capacity, sizes):
    memory, pushed = MemoryBank(capacity), []
    for size in sizes:
        tokens, labels, contents = batch(len(pushed), size)
        memory.push(tokens, labels, contents)
        for i in range(size):
            pushed.append((as_bfloat16(tokens[i].numpy()), np.float32(labels[i].item())))
        expected = dict(list(enumerate(pushed))[-capacity:])
        found = entries(memory)
        assert len(memory) == len(expected)
        assert found.keys() == expected.keys()
        for content, (kept, label) in expected.items():
            np.testing.assert_array_equal(found[content][0], kept)
            assert found[content][1] == label


@given(
    capacity=st.integers(1, 7),
    before=st.lists(st.integers(1, 9), max_size=4),
    after=st.lists(st.integers(1, 9), max_size=4),
)
@settings(deadline=None)
def test_a_restored_memory_goes_on_identically(capacity, before, after):
    memory, first = MemoryBank(capacity), 0
    for size in before:
        memory.push(*batch(first, size))
        first += size
    restored = MemoryBank(capacity)
    restored.push(*batch(10_000, 2))  # its earlier entries are lost
    restored.load_state_dict(memory.state_dict())
    assert len(restored) == len(memory)
    for size in after:
        memory.push(*batch(first, size))
        restored.push(*batch(first, size))
        first += size
        # The positions are the same too: a match is an index.
        assert torch.equal(restored.tokens_MND, memory.tokens_MND)
        assert torch.equal(restored.labels_M, memory.labels_M)
        assert torch.equal(restored.contents_M, memory.contents_M)


def test_a_restored_memory_follows_the_network_to_its_device():
    # A state is read onto the CPU; the next batch comes from wherever the network runs. "meta"
    # is the one other device that every machine has.
    memory = MemoryBank(4)
    memory.push(*batch(0, 3))
    memory.push(*(tensor.to("meta") for tensor in batch(3, 3)))
    assert memory.tokens_MND.device.type == "meta"
    assert memory.labels_M.device.type == memory.contents_M.device.type == "meta"


def test_what_is_kept_is_detached():
    memory = MemoryBank(2)
    tokens, labels, contents = batch(0, 2)
    memory.push(tokens.requires_grad_(), labels.requires_grad_(), contents)
    assert not memory.tokens_MND.requires_grad
    assert not memory.labels_M.requires_grad
    assert memory.tokens_MND.dtype == torch.bfloat16


@pytest.mark.parametrize(("capacity", "tokens", "width"), [(1, 1, 1), (7, 3, 4), (64, 197, 192)])
def test_memory_bytes_are_those_of_the_arrays_of_a_full_memory(capacity, tokens, width):
    memory = MemoryBank(capacity)
    memory.push(torch.zeros(capacity, tokens, width), torch.zeros(capacity), torch.arange(capacity))
    arrays = memory.tokens_MND, memory.labels_M, memory.contents_M
    held = sum(array.element_size() * array.nelement() for array in arrays)
    assert memory_bytes(capacity, tokens, width) == held


def test_the_memory_of_the_paper_scale_takes_what_arithmetic_says():
    # 1024 entries of 197 tokens of 384 channels of two bytes, and twelve bytes each.
    assert memory_bytes(1024, 197, 384) == 1024 * (197 * 384 * 2 + 12) == 154_939_392


def test_a_batch_of_nothing_changes_nothing():
    memory = MemoryBank(3)
    memory.push(*(tensor[:0] for tensor in batch(0, 1)))
    assert len(memory) == 0
    memory.push(*batch(0, 2))
    memory.push(*(tensor[:0] for tensor in batch(0, 1)))
    assert memory.contents_M.tolist() == [0, 1]


# Data parallelism: every rank stores all ranks' entries, in rank order.

CAPACITIES = (3, 8, 11, 100)
SIZES = (2, 3, 1, 4, 5)  # entries that each rank pushes, step by step

PUSHES = f"""
from qfm_iqm.method.memory_bank import MemoryBank
result = {{}}
for capacity in {CAPACITIES}:
    memory = MemoryBank(capacity)
    for step in range({len(SIZES)}):
        memory.push(*(given[f"{{name}}_{{step}}_{{rank}}"] for name in ("tokens", "labels", "ids")))
    result[f"tokens_{{capacity}}"] = memory.tokens_MND
    result[f"labels_{{capacity}}"] = memory.labels_M
    result[f"ids_{{capacity}}"] = memory.contents_M
"""


def test_two_processes_hold_the_entries_of_both_in_rank_order(two_ranks):
    given_, steps, first = {}, [], 0
    for step, size in enumerate(SIZES):
        steps.append([])
        for rank in range(2):
            pushed = batch(first, size)
            first += size
            for name, tensor in zip(("tokens", "labels", "ids"), pushed, strict=True):
                given_[f"{name}_{step}_{rank}"] = tensor
            steps[-1] += zip(*(tensor.tolist() for tensor in pushed), strict=True)
    results = two_ranks(PUSHES, given_)
    for capacity in CAPACITIES:
        ring, place = {}, 0  # a step larger than the ring leaves its last entries
        for entries_ in steps:
            for entry in entries_[-capacity:]:
                ring[place] = entry
                place = (place + 1) % capacity
        held = [ring[i] for i in range(min(capacity, 2 * sum(SIZES)))]
        for result in results:
            tokens, labels, ids = (result[f"{n}_{capacity}"] for n in ("tokens", "labels", "ids"))
            assert ids.tolist() == [entry[2] for entry in held]
            expected = as_bfloat16([entry[0] for entry in held])
            np.testing.assert_array_equal(tokens.float().numpy(), expected)
            expected = np.array([entry[1] for entry in held], np.float32)
            np.testing.assert_array_equal(labels.numpy(), expected)
