"""How soon a report opens: HTML files of 10 to 100,000 rows, from disk, in Chromium.

    python benchmarks/report_opening.py [--rounds 5]        (needs Chromium and the extra browser)

Writes benchmarks/results/report_opening.csv: megabytes of the file, and the seconds from the
beginning of the navigation until the first cards stand on the page and it is loaded; the least and
the median of some rounds, since other work on the machine only ever adds to them. The thumbnails
are those of 500 images, as by default.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from photos import write_photos
from qfm_iqm.model.card import LabelUnits
from qfm_iqm.report.scores import Place, scores_page
from qfm_iqm.scoring.table import ScoreTable

RESULTS = Path(__file__).parent / "results" / "report_opening.csv"
ROWS = (10, 1_000, 10_000, 100_000)


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("There is no chromium: apt-get install chromium")
    figures = []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        photos = write_photos(folder, 50)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for rows in ROWS:
            out = folder / f"{rows}.html"
            page_text = scores_page(
                table(photos, rows), Place(out, folder), LabelUnits(minimum=0, maximum=1)
            )
            out.write_text(page_text, encoding="utf-8")
            seconds = []
            for _ in range(rounds):
                page = browser.new_page()
                page.goto(out.as_uri())
                page.locator("#grid .card").first.wait_for()
                drawn = "performance.getEntriesByType('navigation')[0].loadEventEnd"
                seconds.append(page.evaluate(drawn) / 1000)
                page.close()
            size = len(page_text) / 1e6
            figures.append((rows, size, min(seconds), statistics.median(seconds)))
            print(f"{rows:7} rows  {size:5.1f} MB  {min(seconds):.2f} s least")
        version = browser.version
        browser.close()
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["rows", "megabytes", "seconds_least", "seconds_median", "cores", "machine", "chromium"]
        )
        for rows, size, least, median in figures:
            facts = (os.cpu_count(), platform.machine(), version)
            writer.writerow([rows, f"{size:.2f}", f"{least:.3f}", f"{median:.3f}", *facts])
    print(f"Written to {RESULTS}")


def table(photos: list[Path], rows: int) -> ScoreTable:
    """A table of so many rows, over the same few photos."""
    scores = np.random.default_rng(0).normal(0.6, 0.12, rows).clip(0, 1).round(6)
    return ScoreTable(
        "scores.csv",
        {
            "path": [f"{photos[i % len(photos)].name}" for i in range(rows)],
            "score": scores.tolist(),
            "crop_std": (scores / 20).round(6).tolist(),
            "width": [512] * rows,
            "height": [512] * rows,
            "error": [""] * rows,
            "model": ["default"] * rows,
        },
    )


if __name__ == "__main__":
    main()
