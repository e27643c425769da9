"""Two real processes under data parallelism."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

BEFORE = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from torch import distributed

torch.set_num_threads(1)
folder, rank = Path(sys.argv[1]), int(sys.argv[2])
given = load_file(folder / "given.safetensors")
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
)
"""
AFTER = """
save_file({name: tensor.contiguous() for name, tensor in result.items()}, folder / f"{rank}.out")
distributed.barrier()
distributed.destroy_process_group()
"""


@pytest.fixture
def two_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Mapping[str, Tensor]], list[dict[str, Tensor]]]:
    """Runs a script in two gloo processes, and returns what each calls `result`.

    The script finds the tensors `given` and its `rank`.
    """
    if not torch.distributed.is_gloo_available():
        pytest.skip("this build of torch has no gloo")
    if sys.platform == "linux":
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")

    def run(script: str, given: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        together = {name: tensor.contiguous() for name, tensor in given.items()}
        save_file(together, tmp_path / "given.safetensors")
        ranks = [
            subprocess.Popen(
                [sys.executable, "-c", BEFORE + script + AFTER, str(tmp_path), str(rank)],
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        try:
            errors = [process.communicate(timeout=180)[1] for process in ranks]
        finally:
            for process in ranks:
                process.kill()
        assert [process.returncode for process in ranks] == [0, 0], "\n".join(errors)
        return [load_file(tmp_path / f"{rank}.out") for rank in range(2)]

    return run
