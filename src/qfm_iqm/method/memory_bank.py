"""Memory bank: pairs of features and labels of recent crops (docs/method.md, section 5).

The paper calls it temporary memory: "storing the image features and labels in pairs in temporary
memory". This one is a first-in, first-out buffer of bfloat16 entries. The content id identifies a
crop's photo (or the reference image, on synthetic datasets), so that a crop is never matched with
its own content. Under data parallelism every rank stores all ranks' entries in rank order, so that
all ranks hold the same memory.

Shapes: M entries in memory, B crops in a batch, N patch tokens, D token width.
"""

from typing import Any

import torch
from torch import Tensor, distributed


class MemoryBank:
    """A ring buffer of (tokens, label, content) entries.

    Args:
        capacity: largest number of entries, at least 1; new entries replace the oldest.

    Attributes:
        tokens_MND: (M, 1 + N, D) bfloat16 tokens, class token first.
        labels_M: (M,) labels in standard units.
        contents_M: (M,) content ids.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._next = 0
        self._filled = 0
        self._tokens: Tensor | None = None
        self._labels = torch.empty(capacity)
        self._contents = torch.empty(capacity, dtype=torch.int64)

    def __len__(self) -> int:
        return self._filled

    @property
    def tokens_MND(self) -> Tensor:  # noqa: N802 - shape suffix
        """Tokens of the entries held."""
        assert self._tokens is not None  # the memory is not empty
        return self._tokens[: self._filled]

    @property
    def labels_M(self) -> Tensor:  # noqa: N802 - shape suffix
        """Labels of the entries held."""
        return self._labels[: self._filled]

    @property
    def contents_M(self) -> Tensor:  # noqa: N802 - shape suffix
        """Content ids of the entries held."""
        return self._contents[: self._filled]

    @torch.no_grad()
    def push(self, tokens_BND: Tensor, labels_B: Tensor, contents_B: Tensor) -> None:
        """Stores a detached batch; only the last `capacity` entries of a larger one are kept.

        Under data parallelism this is a collective call: each rank must push equally many entries.
        """
        self._store(
            _all_ranks(tokens_BND.detach().to(torch.bfloat16)),
            _all_ranks(labels_B.detach().float()),
            _all_ranks(contents_B),
        )

    def _store(self, tokens_BND: Tensor, labels_B: Tensor, contents_B: Tensor) -> None:
        if self._tokens is None:
            shape = (self.capacity, *tokens_BND.shape[1:])
            self._tokens = torch.empty(shape, dtype=torch.bfloat16)
        # Move to the network's device: a restored state is on the CPU.
        self._tokens = self._tokens.to(tokens_BND.device)
        self._labels = self._labels.to(tokens_BND.device)
        self._contents = self._contents.to(tokens_BND.device)
        last = slice(-self.capacity, None)
        tokens_BND, labels_B, contents_B = tokens_BND[last], labels_B[last], contents_B[last]
        places = torch.arange(self._next, self._next + len(tokens_BND)) % self.capacity
        self._tokens[places] = tokens_BND
        self._labels[places] = labels_B
        self._contents[places] = contents_B
        self._next = (self._next + len(tokens_BND)) % self.capacity
        self._filled = min(self.capacity, self._filled + len(tokens_BND))

    def state_dict(self) -> dict[str, Any]:
        """The state from which `load_state_dict` restores the memory exactly."""
        held = slice(0, self._filled)
        return {
            "next": self._next,
            "tokens": None if self._tokens is None else self._tokens[held].cpu(),
            "labels": self._labels[held].cpu(),
            "contents": self._contents[held].cpu(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a `state_dict` of a memory of the same capacity."""
        self._tokens, self._filled = None, 0
        if state["tokens"] is not None:
            self._next = 0
            self._store(state["tokens"], state["labels"], state["contents"])
        self._next = state["next"]


def memory_bytes(capacity: int, tokens: int, width: int) -> int:
    """Size of a full memory; an entry is bfloat16 tokens, a float32 label and an int64 content."""
    return capacity * (2 * tokens * width + 4 + 8)


def _all_ranks(tensor: Tensor) -> Tensor:
    """All ranks' rows in rank order; without data parallelism, the tensor itself."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)
