"""Splits for choosing options: validation photos that no seed of the ablations tests.

    python benchmarks/tuning_splits.py --labels BIQ2021/labelled.csv --out cache/tuning_splits

A grid of runs makes a new split for each seed. A validation photo of one seed may then be a test
photo of another, and options chosen by it have seen part of that test. Here all seeds share the
validation photos that none of the seeds 0 to 9 tests (about a tenth). Each seed trains on its
training photos without these, and has its own test photos, which the tuning grid does not score.

Writes OUT/fold0.txt ..., which `recipes/tuning.toml` reads.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from qfm_iqm.datasets.folds import write_folds
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import Split, split_by_content
from qfm_iqm.datasets.table import RatedTable

TESTED = range(10)


def tuning_splits(table: RatedTable, seeds: Sequence[int]) -> list[Split]:
    """A split for each seed, all with the validation photos that no seed of `TESTED` tests.

    Args:
        table: rated photos.
        seeds: seeds of the training and test photos.
    """
    tested = {name for seed in TESTED for name in split_by_content(table, seed=seed).test}
    validation = set(table.names) - tested
    splits = []
    for seed in seeds:
        own = split_by_content(table, seed=seed)
        train = tuple(name for name in own.train + own.validation if name not in validation)
        rule = f"{own.rule}; validation are the images that no seed of 0 to 9 tests"
        splits.append(Split(train, tuple(validation), own.test, rule))
    return splits


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    write_folds(tuning_splits(read_table(given.labels), range(3)), given.out)
