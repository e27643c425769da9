"""Cost of a billion images, from the measured throughput: results/scale.md and docs/scale.md.

    make bench           (or: python benchmarks/scale.py [--price-per-core-hour 0.02])

Reads benchmarks/results/throughput.csv. Give your own price: the default is a round figure for a
rented core, not a real offer.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

from photos import RESULTS

DOC = Path(__file__).parent.parent / "docs" / "scale.md"
TABLE = RESULTS / "scale.md"
BILLION = 1e9
ROW_BYTES = 250  # of a Parquet row, with paths of about 60 characters


def main() -> None:
    """Computes the table and puts it into the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--price-per-core-hour", type=float, default=0.02)
    options = parser.parse_args()
    with (RESULTS / "throughput.csv").open(encoding="utf-8") as file:
        rows = {row["figure"]: row for row in csv.DictReader(file)}
    engine = rows["engine_images_per_second"]
    rate, cores = float(engine["value"]), int(engine["cores"])
    per_core = rate / cores
    core_hours = BILLION / per_core / 3600
    lines = [
        "| what | figure |",
        "|---|---|",
        f"| measured: 512 x 512 JPEGs a second on {cores} cores, end to end | {rate:.0f} |",
        f"| a billion images | {core_hours:,.0f} core hours |",
        f"| on 1,000 cores | {core_hours / 1000:,.0f} hours |",
        f"| at {options.price_per_core_hour:g} a core hour | "
        f"{core_hours * options.price_per_core_hour:,.0f} |",
        f"| read by each of these cores, at 60 kB an image | {per_core * 60 / 1000:.1f} MB/s |",
        f"| rows in Parquet | about {BILLION * ROW_BYTES / 1e9:.0f} GB |",
    ]
    table = "\n".join(lines) + "\n"
    TABLE.write_text(table, "utf-8")
    text = DOC.read_text("utf-8")
    marked = re.compile(r"(<!-- table: benchmarks/results/scale.md -->\n).*?(<!-- end -->)", re.S)
    DOC.write_text(marked.sub(lambda found: found[1] + table + found[2], text), "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
