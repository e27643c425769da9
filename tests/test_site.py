"""The documentation site builds, and every link in it has a target."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import qfm_iqm

ROOT = Path(__file__).parents[1]


def build(folder, site):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", site],
        cwd=folder,
        env=os.environ | {"DISABLE_MKDOCS_2_WARNING": "true"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_site_builds_and_holds_the_reference(tmp_path):
    done = build(ROOT, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").is_file()
    told = (tmp_path / "site" / "reference" / "python.html").read_text("utf-8")
    for name in qfm_iqm.__all__:
        assert f">{name}" in told, name
    verbs = (tmp_path / "site" / "reference" / "command-line.html").read_text("utf-8")
    assert "qfm bench folds" in verbs


@pytest.mark.parametrize("link", ["[gone](gone.md)", "[gone](scores.md#gone)"])
def test_a_link_that_leads_nowhere_ends_the_build(tmp_path, link):
    copy = tmp_path / "copy"
    (copy / "docs").mkdir(parents=True)
    shutil.copytree(ROOT / "docs" / "site", copy / "docs" / "site")
    (copy / "README.md").write_text(f"# Front\n\n{link}\n", "utf-8")
    (copy / "docs" / "scores.md").write_text("# Scores\n", "utf-8")
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    # Without the generated pages, which take most of the time.
    config = config[: config.index("plugins:")] + config[config.index("markdown_extensions:") :]
    config = config[: config.index("\nnav:")] + "\nnav: [index.md, scores.md]\n"
    (copy / "mkdocs.yml").write_text(config, "utf-8")
    done = build(copy, tmp_path / "site")
    assert done.returncode == 1
    assert "gone" in done.stderr
