"""Counts near-duplicate photos of a rated set, whatever its `content` column says.

    python benchmarks/near_duplicates.py --root BIQ2021

Compares all pairs of photos by perceptual hash: how many pairs of one and of different contents lie
within each distance, and which test images of the default split have a near-duplicate in the
training split. Uses no labels. Writes benchmarks/results/near_duplicates.csv, and the names of
these test images to near_duplicates_test.txt, for `qfm evaluate --exclude`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from qfm_iqm.datasets.leakage import near_duplicates, perceptual_hashes
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.image.perceptual_hash import MAX_DISTANCE

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Counts, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    root = parser.parse_args().root
    table = read_table(root / "labelled.csv")
    hashes = perceptual_hashes(table.paths(root)).hashes_N8
    pairs = [(i, j, d) for i, j, d in near_duplicates(hashes, hashes, max_distance=8) if i < j]
    rows: list[tuple[str, int, int]] = []
    for distance in (0, 2, 4, 6, 8):
        within = [(i, j) for i, j, d in pairs if d <= distance]
        same = sum(table.contents[i] == table.contents[j] for i, j in within)
        rows.append(("pairs of one content", distance, same))
        rows.append(("pairs of different contents", distance, len(within) - same))
    splits = split_by_content(table).indices(table)
    leaking = near_duplicates(hashes[splits["test"]], hashes[splits["train"]])
    tests = splits["test"][np.unique([i for i, _, _ in leaking])]
    names = sorted(table.names[row] for row in tests.tolist())
    (RESULTS / "near_duplicates_test.txt").write_text("\n".join(names) + "\n", "utf-8")
    rows.append(
        ("test images with a near-duplicate in the training split", MAX_DISTANCE, len(names))
    )
    with (RESULTS / "near_duplicates.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "bits_at_most", "count"])
        writer.writerows(rows)
    for name, distance, count in rows:
        print(f"{name}, at most {distance} bits: {count}")


if __name__ == "__main__":
    main()
