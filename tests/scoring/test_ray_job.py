import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qfm_iqm.errors import QFMError
from qfm_iqm.scoring import job_config
from qfm_iqm.scoring.job import Job
from qfm_iqm.scoring.ray_job import DistributedJob, Output, RemoteScorer
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.table import read_rows

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes on this machine, one of which may be taken away."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # Notices a lost node after seconds, not after half a minute.
        watchful = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 1000,
            "health_check_timeout_ms": 10000,
            "health_check_failure_threshold": 5,
        }
        running = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1, "include_dashboard": False, "_system_config": watchful,
            },
        )  # fmt: skip
        try:
            running.add_node(num_cpus=1)
            ray.init(address=running.address, log_to_driver=False)
            yield running
        finally:
            ray.shutdown()
            running.shutdown()


@pytest.fixture
def files(photo_folder, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    photos = sorted(photo_folder.iterdir())
    for number in range(40):
        os.link(photos[number % 12], folder / f"{number:02d}{photos[number % 12].suffix}")
    (folder / "17b.jpg").write_text("no image")
    files = [str(path) for path in sorted(folder.iterdir())]
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for file in files[-2:]:
            tar.add(file, Path(file).name)
    rows = [{"bytes": Path(file).read_bytes(), "path": None} for file in files[-4:-2]]
    pq.write_table(pa.table({"image": rows}), folder / "rows.parquet")
    inside = [f"{folder}/shard.tar/{Path(file).name}" for file in files[-2:]]
    return [*files[:-4], f"{folder}/rows.parquet/0", f"{folder}/rows.parquet/1", *inside]


@pytest.fixture
def remote(tiny_model_folder):
    return RemoteScorer(str(tiny_model_folder), scorer={"batch_size": 4, "readers": 1})


def table(folder):
    shards = sorted(Path(folder).glob("part-*.parquet"))
    return [ScoreRow(**row) for shard in shards for row in pq.read_table(shard).to_pylist()]


def test_a_node_goes_down_and_every_image_is_scored_once(
    cluster, files, remote, tmp_path, monkeypatch
):
    monkeypatch.setattr(job_config, "SHARD", 4)
    out = tmp_path / "out"
    local = Job(tmp_path / "local.jsonl", files, remote.build(), resume=False)
    for _ in local.run():
        pass
    local.finish()
    job = DistributedJob(str(out), files, remote, resume=False)
    assert job.left == len(files)
    killed = False
    for done, _ in enumerate(job.run(), 1):
        if done >= 3 and not killed:
            cluster.remove_node(sorted(cluster.worker_nodes, key=id)[0], allow_graceful=False)
            killed = True
    assert killed
    rows = table(out)
    assert [row.path for row in rows] == files
    assert rows == read_rows(tmp_path / "local.jsonl")  # to the bit
    assert sorted(path.name for path in out.iterdir()) == [
        "job.json",
        *(f"part-{number:06d}.parquet" for number in range(11)),
        "plan.jsonl",
    ]
    # Again, nothing is left to do; if a shard is removed, only that shard.
    assert DistributedJob(str(out), files, remote, resume=True).left == 0
    (out / "part-000004.parquet").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    job = DistributedJob(str(out), files, remote, resume=True)
    assert job.left == 4
    assert list(job.run()) == [(4, 1)]
    assert table(out) == rows
    assert all((out / name).stat().st_mtime_ns == when for name, when in times.items())


ALONE = """
import ray, sys
from qfm_iqm.scoring.ray_job import DistributedJob, RemoteScorer

model, out, *files = sys.argv[1:]
job = DistributedJob(out, files, RemoteScorer(model), resume=False)
print(sum(rows for rows, _ in job.run()))
print(ray.get_runtime_context().gcs_address)
"""


def test_a_cluster_that_happens_to_run_is_not_joined(cluster, files, tiny_model_folder, tmp_path):
    arguments = [ALONE, tiny_model_folder, tmp_path / "out", *files[:3]]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    rows, address = done.stdout.split()
    assert rows == "3"
    assert address != cluster.address


def test_other_places_than_folders(files, remote, monkeypatch):
    """What actors do, on fsspec's in-memory file system."""
    import fsspec

    from qfm_iqm.scoring.ray_job import PartScorer

    system = fsspec.filesystem("memory")
    system.pipe("/photos/a.jpg", Path(files[0]).read_bytes())
    job = DistributedJob("memory://out", ["memory://photos/a.jpg", files[1]], remote, resume=False)
    assert job.missing == [0]
    import numpy as np

    batch = {"number": np.array([0]), "files": np.array([json.dumps(job.plan[0])])}
    answer = PartScorer(remote, "memory://out")(batch)
    assert answer == {"number": [0], "rows": [2], "errors": [0]}
    assert Output("memory://out").done() == {0}
    with system.open("/out/part-000000.parquet") as file:
        rows = pq.read_table(file).to_pylist()
    assert [row["path"] for row in rows] == ["memory://photos/a.jpg", files[1]]
    assert rows[0]["status"] == "ok"
    assert DistributedJob("memory://out", files[:2], remote, resume=True).missing == [1]


def test_a_job_is_not_mixed_up_with_another(files, remote, tmp_path):
    DistributedJob(str(tmp_path / "out"), files[:2], remote, resume=False)
    with pytest.raises(QFMError, match="holds a job: continue it with --resume"):
        DistributedJob(str(tmp_path / "out"), files[:2], remote, resume=False)
    other = RemoteScorer(remote.model, scorer={"batch_size": 5})
    with pytest.raises(QFMError, match="was started with --batch-size 4, not 5"):
        DistributedJob(str(tmp_path / "out"), files[:2], other, resume=True)


def test_ray_data_gets_columns(cluster, files, tiny_model_folder):
    """`ScoreColumns` over bytes that Ray Data has read."""
    from qfm_iqm.integrations.columns import ScoreColumns

    content = ray.data.read_binary_files([*files[:6], files[17]], include_paths=True)
    scored = content.map_batches(
        ScoreColumns,
        fn_constructor_args=(str(tiny_model_folder),),
        fn_constructor_kwargs={"image": "bytes", "keep": ["path"], "columns": ["score", "error"]},
        batch_size=3,
        concurrency=1,
        num_cpus=0,  # one node is gone, and reading needs the remaining core
    )
    found = {row["path"]: row for row in scored.take_all()}
    assert found.keys() == {*files[:6], files[17]}
    remote = RemoteScorer(str(tiny_model_folder), scorer={"readers": 1})
    for row in remote.build().score_paths(found):
        theirs = found[row.path]
        if row.score is None:
            assert "cannot read" in theirs["error"]
        else:
            assert theirs["score"] == pytest.approx(row.score, abs=1e-4)
