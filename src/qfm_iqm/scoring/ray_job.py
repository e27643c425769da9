"""A scoring job on many machines: Ray Data distributes shards, actors score them to Parquet.

    scores/
        job.json                what the rows depend on, as in `scoring.job`
        plan.jsonl              the files, one list per line; each line is a shard
        part-000000.parquet     the rows of shard 0, written atomically
        ...

The folder may be local, shared between the machines, or any URL that fsspec supports, and so may
the images. An existing shard is done, whoever wrote it. If a machine fails, the shards that it was
scoring are scored elsewhere under the same names. Running an interrupted job again resumes it. The
rows are those of the local engine.
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
from qfm_iqm.scoring.job_config import Identity, extended, refuse_other
from qfm_iqm.scoring.row import COLUMNS, write_rows
from qfm_iqm.scoring.runtimes.load import load_runtime
from qfm_iqm.scoring.scorer import Scorer

if TYPE_CHECKING:
    import numpy as np

_JOB, _PLAN = "job.json", "plan.jsonl"


@dataclass(frozen=True)
class RemoteScorer:
    """The specification of a scorer, as plain values that can be sent to other machines.

    Attributes:
        model: name of the model, or a folder that all machines can read.
        runtime: options for `load_runtime`.
        scorer: options for `Scorer`.
    """

    model: str
    runtime: dict[str, Any] = field(default_factory=dict)
    scorer: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Scorer:
        """Loads the model and builds the scorer."""
        return Scorer(load_runtime(self.model, **self.runtime), **self.scorer)


class Output:
    """The folder of a distributed job.

    Args:
        url: a local folder, or a URL that fsspec supports.

    Attributes:
        url: the absolute URL, because other processes have other working directories.

    Raises:
        TableError: the file system is not supported.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self.system, self.root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise TableError(f"'{url}' cannot be written to: {error}.") from error
        self.url = url if "://" in url else self.root

    def shard(self, number: int) -> str:
        """The path of a shard."""
        return f"{self.root}/part-{number:06d}.parquet"

    def done(self) -> set[int]:
        """The numbers of the existing shards."""
        self.system.invalidate_cache()
        found = self.system.glob(f"{self.root}/part-*.parquet")
        return {int(str(name)[-14:-8]) for name in found}

    def read(self, name: str) -> bytes | None:
        """A file's content; None if it does not exist."""
        try:
            content: bytes = self.system.cat_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return None
        return content

    def put(self, local: Path, place: str) -> None:
        """Puts a file in place atomically."""
        if "file" in self.system.protocol or "local" in self.system.protocol:
            partial = f"{place}.{os.getpid()}.partial"
            self.system.put_file(str(local), partial)
            os.replace(partial, place)  # noqa: PTH105 - the place is a str of fsspec's
        else:  # object stores show a new object only once it is complete
            self.system.put_file(str(local), place)

    def write(self, name: str, content: str) -> None:
        """Writes a small file atomically."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / name
            local.write_text(content)
            self.put(local, f"{self.root}/{name}")


class PartScorer:
    """A Ray actor that holds the model and scores one shard after another."""

    def __init__(self, remote: RemoteScorer, url: str) -> None:
        self.scorer = remote.build()
        self.output = Output(url)

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[int]]:
        """Scores shards and writes their rows.

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


class DistributedJob:
    """Scores files on a Ray cluster into a folder of Parquet files.

    Args:
        url: the folder.
        files: files to score: local paths that all machines can read, or URLs.
        remote: the scorer's specification.
        resume: continue an earlier run.

    Attributes:
        left: number of files in missing shards.

    Raises:
        QFMError: the folder holds a job and `resume` is False, or a job with other settings.
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
        """The existing plan, extended by new files, or a new plan."""
        identity = asdict(Identity.of(self.remote.build()))
        ours = {"columns": list(COLUMNS), **identity}
        found = self.output.read(_JOB)
        before: list[list[str]] = []
        if found is not None:
            if not resume:
                raise QFMError(
                    f"{self.output.url} holds a job: continue it with --resume, or write elsewhere."
                )
            refuse_other(json.loads(found), ours, self.output.url)
            lines = self.output.read(_PLAN) or b""
            before = [json.loads(line) for line in lines.splitlines()]
        plan = extended(before, files)
        if plan != before:
            self.output.write(_PLAN, "".join(json.dumps(shard) + "\n" for shard in plan))
        if found is None:
            self.output.write(_JOB, json.dumps(ours, indent=1))
        return plan

    def run(self, *, address: str | None = None) -> Iterator[tuple[int, int]]:
        """Scores the missing shards, with one actor per GPU of the cluster, or else per core.

        Args:
            address: address of a Ray cluster; None uses the connected cluster or RAY_ADDRESS, or
                else starts Ray on this machine.

        Yields:
            For each finished shard, its rows and how many of them have no score.
        """
        if not self.missing:
            return
        import ray

        if not ray.is_initialized():
            # Without an address Ray would join any cluster that it finds on this machine.
            address = address or os.environ.get("RAY_ADDRESS") or "local"
            # Ray's processes import first from the directory in which Ray was started; they must
            # not run code that lies next to the photos.
            with chdir(sys.prefix):
                ray.init(address=address, log_to_driver=False, include_dashboard=False)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        gpus = int(ray.cluster_resources().get("GPU", 0))
        cores = int(ray.cluster_resources().get("CPU", 1))
        most = min(gpus or cores, len(self.missing))
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
            yield int(row["rows"]), int(row["errors"])
