"""The same job on many machines: Ray Data hands shards out, actors score them and write Parquet.

    scores/
        job.json                what the rows depend on, as in `scoring.job`
        plan.jsonl              the files, one list a line: each line is a shard
        part-000000.parquet     the rows of shard 0, written whole or not at all
        ...

The folder may be local, shared between the machines, or any URL that fsspec knows; so may be the
images. A shard that is there is done, whoever wrote it: a machine that goes down takes the shards
it was scoring with it, and these are scored elsewhere, under the same names; a job that was ended
is gone on with by running it again. The rows are those of the local engine.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qfm_iqm.errors import QFMError, TableError
from qfm_iqm.scoring.job import in_parts
from qfm_iqm.scoring.job_config import Identity
from qfm_iqm.scoring.row import COLUMNS, write_rows
from qfm_iqm.scoring.runtimes.load import load_runtime
from qfm_iqm.scoring.scorer import Scorer

if TYPE_CHECKING:
    import numpy as np

_JOB, _PLAN = "job.json", "plan.jsonl"


@dataclass(frozen=True)
class RemoteScorer:
    """What an actor makes its scorer from: plain words, as it goes to other machines.

    Attributes:
        model: its name, or a folder that all machines see.
        runtime: options of `load_runtime`.
        scorer: options of `Scorer`.
    """

    model: str
    runtime: dict[str, Any] = field(default_factory=dict)
    scorer: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Scorer:
        """Loads the model."""
        return Scorer(load_runtime(self.model, **self.runtime), **self.scorer)


class Output:
    """The folder of a distributed job.

    Args:
        url: a local folder, or what fsspec knows.

    Attributes:
        url: the same, absolute: other processes stand in other folders.

    Raises:
        TableError: no such file system.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self.system, self.root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise TableError(f"'{url}' cannot be written to: {error}.") from error
        self.url = url if "://" in url else self.root

    def shard(self, number: int) -> str:
        """The place of a shard."""
        return f"{self.root}/part-{number:06d}.parquet"

    def done(self) -> set[int]:
        """The shards that are there."""
        self.system.invalidate_cache()
        found = self.system.glob(f"{self.root}/part-*.parquet")
        return {int(str(name)[-14:-8]) for name in found}

    def read(self, name: str) -> bytes | None:
        """A file's content; None if it is not there."""
        try:
            content: bytes = self.system.cat_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return None
        return content

    def put(self, local: Path, place: str) -> None:
        """Brings a file to its place whole: others see all of it or nothing."""
        if "file" in self.system.protocol or "local" in self.system.protocol:
            partial = f"{place}.{os.getpid()}.partial"
            self.system.put_file(str(local), partial)
            os.replace(partial, place)  # noqa: PTH105 - the place is a str of fsspec's
        else:  # object stores show a new object only when it is complete
            self.system.put_file(str(local), place)

    def write(self, name: str, content: str) -> None:
        """Writes a small file whole."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / name
            local.write_text(content)
            self.put(local, f"{self.root}/{name}")


class PartScorer:
    """A Ray actor: holds the model and scores one shard after the other."""

    def __init__(self, remote: RemoteScorer, url: str) -> None:
        self.scorer = remote.build()
        self.output = Output(url)

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[int]]:
        """Scores shards and writes each.

        Args:
            batch: columns `number` and `files`, the latter as JSON.

        Returns:
            Columns `number`, `rows` and `errors`.
        """
        answer: dict[str, list[int]] = {"number": [], "rows": [], "errors": []}
        for number, files in zip(batch["number"].tolist(), batch["files"].tolist(), strict=True):
            rows = list(self.scorer.score_paths(json.loads(files)))
            with tempfile.TemporaryDirectory() as folder:
                local = Path(folder) / "shard.parquet"
                write_rows(rows, local)
                self.output.put(local, self.output.shard(number))
            answer["number"].append(number)
            answer["rows"].append(len(rows))
            answer["errors"].append(sum(row.status == "error" for row in rows))
        return answer


@dataclass(frozen=True)
class Progress:
    """A shard that is done.

    Attributes:
        rows: it has.
        errors: rows without a score.
    """

    rows: int
    errors: int


class DistributedJob:
    """Scores files on a Ray cluster into a folder of Parquet files.

    Args:
        url: the folder.
        files: what to score: local paths that all machines see, or URLs.
        remote: the scorer.
        resume: go on with what an earlier run left.

    Attributes:
        left: files whose shard is not there yet.

    Raises:
        QFMError: the folder holds a job and `resume` is not set, or one of another model.
    """

    def __init__(
        self, url: str, files: Sequence[str], remote: RemoteScorer, *, resume: bool
    ) -> None:
        self.remote = remote
        self.output = Output(url)
        self.output.system.makedirs(self.output.root, exist_ok=True)
        self.plan = self._plan(list(dict.fromkeys(files)), resume)
        done = self.output.done()
        self.missing = [number for number in range(len(self.plan)) if number not in done]
        self.left = sum(len(self.plan[number]) for number in self.missing)

    def _plan(self, files: Sequence[str], resume: bool) -> list[list[str]]:
        """The plan that is there, continued, or a new one."""
        identity = asdict(Identity.of(self.remote.build()))
        ours = {"columns": list(COLUMNS), **identity}
        found = self.output.read(_JOB)
        plan: list[list[str]] = []
        if found is not None:
            if not resume:
                raise QFMError(
                    f"{self.output.url} holds a job: go on with it by --resume, or write elsewhere."
                )
            theirs = json.loads(found)
            for name, value in ours.items():
                if theirs.get(name) != value:
                    raise QFMError(
                        f"The job {self.output.url} was begun with {name} = {theirs.get(name)}, "
                        f"not {value}: go on with the same, or write elsewhere."
                    )
            lines = self.output.read(_PLAN) or b""
            plan = [json.loads(line) for line in lines.splitlines()]
        have = {file for shard in plan for file in shard}
        new = [file for file in files if file not in have]
        if new:
            plan += in_parts(new)
            self.output.write(_PLAN, "".join(json.dumps(shard) + "\n" for shard in plan))
        if found is None:
            self.output.write(_JOB, json.dumps(ours, indent=1))
        return plan

    def run(self, *, address: str | None = None, actors: int | None = None) -> Iterator[Progress]:
        """Scores what is missing.

        Args:
            address: of a Ray cluster; None uses the one that is joined already, or that of
                RAY_ADDRESS, or starts Ray on this machine.
            actors: how many hold the model; None takes as many as the cluster has cores or GPUs.

        Yields:
            What each shard has come to, as it is done.
        """
        if not self.missing:
            return
        import ray

        if not ray.is_initialized():
            # Without an address Ray would join whatever cluster it finds on this machine.
            address = address or os.environ.get("RAY_ADDRESS") or "local"
            # Ray has its processes import from the folder that is current while it starts, before
            # all others: of what lies beside the photos they must run nothing.
            with chdir(sys.prefix):
                ray.init(address=address, log_to_driver=False, include_dashboard=False)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        gpus = int(ray.cluster_resources().get("GPU", 0))
        cores = int(ray.cluster_resources().get("CPU", 1))
        most = min(actors or gpus or cores, len(self.missing))
        shards = ray.data.from_items(
            [{"number": n, "files": json.dumps(self.plan[n])} for n in self.missing],
            override_num_blocks=len(self.missing),
        )
        scored = shards.map_batches(
            PartScorer,
            fn_constructor_args=(self.remote, self.output.url),
            batch_size=1,
            concurrency=(1, most),
            num_cpus=None if gpus else 1,
            num_gpus=1 if gpus else None,
        )
        for row in scored.iter_rows():
            yield Progress(rows=int(row["rows"]), errors=int(row["errors"]))
