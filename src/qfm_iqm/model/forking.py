"""Makes torch usable in processes forked from one that has already computed with it."""

import os
from functools import cache, partial

import torch


@cache
def keep_forks_able() -> None:
    """Makes torch use one thread in every process forked from this one, from now on.

    A forked process has none of its parent's threads, but torch's OpenMP would wait for them
    forever. With one thread it does not wait.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
