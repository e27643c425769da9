"""Prints the oldest supported series of each dependency, as constraints for pip.

python3 .ci/oldest.py > oldest.txt
PIP_CONSTRAINT=$PWD/oldest.txt .ci/run
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
bounds = {}
extras.pop("bench")  # tests do not install it, and some of it demands newer versions of ours
for group in (project["dependencies"], *extras.values()):
    for requirement in group:
        found = re.fullmatch(r"([\w-]+)(?:\[.*\])?(?:>=([\w.]+))?", requirement)
        if not found:
            raise SystemExit(f"{requirement!r} names no lower bound: write NAME>=VERSION.")
        name, version = found.groups()
        if version and bounds.setdefault(name, version) != version:
            raise SystemExit(f"{name} has two lower bounds: {bounds[name]} and {version}.")
for name, version in sorted(bounds.items()):
    print(f"{name}=={version}.*")
