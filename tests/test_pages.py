"""Every block of code in the documentation runs, and gives what the page says."""

import re
import runpy
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
KNOWN = {"console", "bash", "python", "toml", "yaml", "json", "text", "diff", "ini", "nginx"}
ELSEWHERE = {"extending.md"}  # test_extending.py
BLOCKS = runpy.run_path(str(ROOT / "docs" / "site" / "blocks.py"))


def blocks_of(page):
    return list(BLOCKS["blocks_of"](page.read_text("utf-8")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    BLOCKS["write_photos"](folder)
    return folder


RUN = [p for p in PAGES if p.name not in ELSEWHERE and any(b.runs for b in blocks_of(p))]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs_and_gives_what_it_says(page, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other tests use the other cores
    shutil.copytree(photos, tmp_path / "folder")
    assert BLOCKS["run_page"](page, tmp_path / "folder") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_all_code_stands_in_blocks_of_a_known_language(page):
    text = page.read_text("utf-8")
    assert {block.language for block in blocks_of(page)} <= KNOWN | {"setup"}
    fences = len(re.findall(r"^ *```", text, re.MULTILINE))
    assert fences == 2 * sum(block.language != "setup" for block in blocks_of(page))
    assert not re.search(
        r"\n\n    (?!\s*[-*\d])\S", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    )


PAGE = """
```console
$ ls rated/*_clean.png | wc -l
5
```

<!-- exit: 1 -->
```console
$ qfm gate photos/burst --min 50
fail    photos/burst/shot_1.jpg: 26.7688 is below the limit of 50.
2 passed, 1 failed (score >= 50).
```

```python
from qfm_iqm import load_model

print(round(load_model().score("photos/cat.jpg").value))  # 77
```

```python
print("said", "by print")
```

```text
said by print
```

<!-- not run: no such bucket -->
```bash
qfm score s3://bucket --out scores.csv
```
"""


def run(text, photos, tmp_path, **options):
    shutil.copytree(photos, tmp_path / "folder")
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    return BLOCKS["run_page"](page, tmp_path / "folder", **options), page


def test_a_page_that_says_what_happens_passes(photos, tmp_path):
    assert run(PAGE, photos, tmp_path)[0] == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("\n5\n", "\n6\n", "but the page says"),
        ("26.7688", "35.0193", "but the page says"),
        ("exit: 1", "exit: 0", "ended with 1, not 0"),
        ("# 77", "# 78", "prints"),
        ("\nsaid by", "\nnot said by", "prints"),
        ("load_model()", "load_models()", "NameError"),
        ("--out scores.csv\n", "--oust scores.csv\n", "score has no option '--oust'"),
        ("qfm score s3", "qfm scores s3", "qfm has no verb 'scores'"),
    ],
)
def test_a_page_that_says_something_else_fails(photos, tmp_path, right, wrong, said):
    assert right in PAGE
    (fault,) = run(PAGE.replace(right, wrong), photos, tmp_path)[0]
    assert said in fault


def test_outputs_can_be_written_into_a_page(photos, tmp_path):
    wrong = PAGE.replace("26.7688", "0.0").replace("\nsaid by print", "")
    faults, page = run(wrong, photos, tmp_path, write=True)
    assert len(faults) == 2
    assert page.read_text("utf-8") == PAGE
