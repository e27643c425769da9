"""What selection on the test split adds to a figure: both protocols, ten folds, two sets.

    python benchmarks/protocols.py --kodak KODAK --biq2021 BIQ2021

Makes the synthetic set (benchmarks/kodak_synthetic.py) in cache/ if it is missing, and runs
`qfm bench folds` on it and on BIQ2021's photos by both protocols. A killed run resumes.
QFM_BACKBONE_DIR is the folder of the backbone's weights. Writes
benchmarks/results/{kodak_synthetic,biq2021_folds}_{validation,test}_selected_{figures.csv,summary.csv,summary.md}.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
CACHE = REPOSITORY / "cache"


def main() -> None:
    """Reads the arguments and runs the four benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kodak", type=Path, required=True)
    parser.add_argument("--biq2021", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--only", choices=("kodak_synthetic", "biq2021_folds"))
    arguments = parser.parse_args()
    CACHE.mkdir(exist_ok=True)
    if not (CACHE / "kodak_synthetic/labels.csv").is_file():
        script = [sys.executable, str(REPOSITORY / "benchmarks/kodak_synthetic.py")]
        options = [f"--photos={arguments.kodak.resolve()}", f"--out={CACHE / 'kodak_synthetic'}"]
        subprocess.run([*script, *options], check=True)
    # BIQ2021 has near-duplicates with different content ids: counted, not refused.
    sets = {
        "kodak_synthetic": [f"data.root={CACHE / 'kodak_synthetic'}"],
        "biq2021_folds": [f"data.root={arguments.biq2021.resolve()}", "--allow-leaks"],
    }
    for name, options in sets.items():
        for protocol in ("validation-selected", "test-selected"):
            if arguments.only in (None, name):
                command = [
                    sys.executable,
                    "-m",
                    "qfm_iqm",
                    "bench",
                    "folds",
                    f"recipes/{name}.toml",
                ]
                command += ["--protocol", protocol, "--folds", str(arguments.folds)]
                command += ["--results", "benchmarks/results", "--set", *options]
                subprocess.run(command, check=True, cwd=REPOSITORY)


if __name__ == "__main__":
    main()
