"""Two real processes under data parallelism."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .forking import ForkServer

BEFORE = """
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from torch import distributed

torch.set_num_threads(1)
folder = Path(sys.argv[1])
other = os.fork()
rank = 0 if other else 1
given = load_file(folder / "given.safetensors")
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
)
"""
AFTER = """
save_file({name: tensor.contiguous() for name, tensor in result.items()}, folder / f"{rank}.out")
distributed.barrier()
distributed.destroy_process_group()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) if other else 0)
"""


@pytest.fixture
def two_ranks(tmp_path: Path, forked: ForkServer) -> Callable[..., list[dict[str, Tensor]]]:
    """Runs a script in two gloo processes, and returns what each calls `result`.

    The script finds the tensors `given`, its `rank`, the test's `folder`, and what `imports` names.
    """
    if not torch.distributed.is_gloo_available():
        pytest.skip("this build of torch has no gloo")

    def run(script: str, given: Mapping[str, Tensor], imports: str = "") -> list[dict[str, Tensor]]:
        together = {name: tensor.contiguous() for name, tensor in given.items()}
        save_file(together, tmp_path / "given.safetensors")
        local = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
        code, _, errors = forked.run(
            tmp_path, before=imports + BEFORE + script + AFTER, environment=local
        )
        assert code == 0, errors
        return [load_file(tmp_path / f"{rank}.out") for rank in range(2)]

    return run
