"""Options are chosen on photos that no seed tests."""

import runpy
from pathlib import Path

import numpy as np

from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.datasets.table import RatedTable

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/tuning_splits.py"))


def test_no_seed_tests_a_validation_photo():
    contents = tuple(f"scene{n // 2}" for n in range(400))
    table = RatedTable(tuple(f"{n}.jpg" for n in range(400)), np.arange(400.0), contents)
    splits = SCRIPT["tuning_splits"](table, range(3))
    tested = {name for seed in SCRIPT["TESTED"] for name in split_by_content(table, seed=seed).test}
    content = dict(zip(table.names, contents, strict=True))
    for seed, split in enumerate(splits):
        assert split.validation == splits[0].validation
        assert split.validation
        assert not tested & set(split.validation)
        assert split.test == split_by_content(table, seed=seed).test
        assert set(split.indices(table)) == {"train", "validation", "test"}  # all photos, once
        seen = [{content[name] for name in split.names(part)} for part in ("train", "validation")]
        assert not seen[0] & seen[1]
