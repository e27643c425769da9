"""Adapts the links of pages, which are also read in the repository, to the site.

The front page is README.md, whose links start in the repository's folder; other pages' links start
in `docs/`. Linked files outside of `docs/` are copied into the site.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_COPIED = re.compile(r"^(\.\./)?((?:benchmarks|examples|recipes)/[^#]+|[A-Z]+\.md|LICENSE)(#.*)?$")


def on_files(files: Files, config: Any) -> Files:
    """Adds README.md as the front page, and the files that pages link to."""
    wanted = {"index.md": ROOT / "README.md"}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for _, target, _ in LINK.findall(page.read_text("utf-8")):
            if (found := _COPIED.match(target)) and found[2] != "README.md":
                wanted[found[2]] = ROOT / found[2]
    for name, source in wanted.items():
        if files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Changes links to their targets on the site."""

    def moved(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        target = target.removeprefix("../").removeprefix("docs/")
        return before + re.sub(r"^README\.md", "index.md", target) + after

    return LINK.sub(moved, markdown)
