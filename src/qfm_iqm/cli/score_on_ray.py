"""`qfm score --engine ray`: the same verb on many machines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qfm_iqm.cli.options import extra

if TYPE_CHECKING:
    from rich.console import Console

    from qfm_iqm.scoring.inputs import FoundFiles


def score_on_ray(
    out: str,
    found: FoundFiles,
    model: str,
    runtime: dict[str, Any],
    scorer: dict[str, Any],
    resume: bool,
    address: str | None,
    console: Console,
) -> int:
    """Scores into a folder or URL of Parquet files; gives the exit code.

    Paths become absolute: other machines stand in other folders.
    """
    from qfm_iqm.scoring.ray_job import DistributedJob, RemoteScorer

    files = [file if "://" in file else str(Path(file).absolute()) for file in found.files]
    model = str(Path(model).absolute()) if Path(model).is_dir() else model
    with extra("ray", "The engine ray"):
        import ray.data  # noqa: F401 - a missing extra is found before any work

        job = DistributedJob(out, files, RemoteScorer(model, runtime, scorer), resume=resume)
        if job.left < len(files):
            console.print(f"{len(files) - job.left} files have their row already.", markup=False)
        began = time.perf_counter()
        done = errors = 0
        for part in job.run(address=address):
            done += part.rows
            errors += part.errors
            if console.is_terminal:
                console.print(f"{done} of {job.left}", end="\r")
    seconds = time.perf_counter() - began
    rate = done / max(seconds, 1e-9)
    failed = f", {errors} could not be scored" if errors else ""
    console.print(
        f"Scored {done - errors} images in {seconds:.1f} s ({rate:.1f} images/s){failed}: {out}",
        markup=False,
        soft_wrap=True,
    )
    return int(errors > 0)
