"""A process that is forked from one that has computed with torch."""

import os
from functools import cache

import torch


@cache
def keep_forks_able() -> None:
    """Has torch compute on one thread in whatever is forked from this process, from now on.

    A fork has none of its parent's threads, and OpenMP, by which torch shares out its work, waits
    for them for ever. On one thread it waits for nobody.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    torch.set_num_threads(1)
