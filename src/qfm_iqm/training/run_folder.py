"""A run's folder: its files, and whether a run may start or resume there.

It holds `recipe.json`, `split.txt`, `log.jsonl` (steps, validation, test), `state.safetensors` (to
resume) and `best/` (the model of the best epoch so far); at the end also `model/`, `results.csv`
(every metric with its interval) and `test.csv` (one row per test image). `stages.json` records the
stages before and after the training (`training.stages`); `lock` keeps other processes out.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from qfm_iqm.datasets.splits import Split
from qfm_iqm.errors import RecipeError
from qfm_iqm.files import writing
from qfm_iqm.model.locate import CARD_FILE
from qfm_iqm.scoring.locks import LockFile
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.recipe_schema import FINISHING

# Stages other than the training: each is repeated if its inputs have changed.
_STAGES = ("teachers", "pseudo_labels", *FINISHING)
# A run may resume on another machine: these keys set paths and resources, not what is computed.
_MAY_DIFFER = (
    ("data", "root"),
    ("model", "folder"),
    ("backbone", "weights"),
    ("train", "device"),
    ("train", "workers"),
    ("train", "cache"),
    ("train", "feature_cache"),
)


class RunFolder:
    """The folder of one training run.

    Args:
        path: the folder; created when the run begins.
        recipe: the run's recipe.
        resume: resume an existing run.
        replace: replace an existing run of another recipe, as is done for teachers.

    Attributes:
        resuming: whether there is a run to resume.
        finished: whether the run was tested and its model written.

    Raises:
        RecipeError: `path` is a file, holds a run and `resume` is False, or holds a run of
            another recipe.
    """

    def __init__(self, path: Path, recipe: Recipe, *, resume: bool, replace: bool = False) -> None:
        self.path = path
        self.stages = path / "stages.json"
        self.state = path / "state.safetensors"
        self.best = path / "best"
        self.model = path / "model"
        self.results = path / "results.csv"
        self._recipe_file = path / "recipe.json"
        self._log_file = path / "log.jsonl"
        self._recipe = recipe
        self.finished = (self.model / CARD_FILE).is_file()  # written last
        self._replace = replace
        self.resuming = self._check(resume)

    def restart(self) -> None:
        """Removes the state of a training whose inputs have changed."""
        self.state.unlink(missing_ok=True)
        for folder in (self.best, self.model):
            shutil.rmtree(folder, ignore_errors=True)
        self.resuming = self.finished = False

    def claim(self, split: Split) -> None:
        """Creates the folder, and writes the run's recipe and split there.

        Raises:
            TableError: it cannot be written.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._recipe_file.write_text(self._recipe.model_dump_json(indent=2) + "\n", "utf-8")
            (self.path / "split.txt").write_text(split.to_text(), "utf-8")

    def begin(self, split: Split) -> None:
        """Creates the folder of a new training, with an empty log.

        Raises:
            TableError: it cannot be written.
        """
        self.claim(split)
        self._log_file.unlink(missing_ok=True)

    def refuse_another_split(self, split: Split) -> None:
        """Refuses a folder whose run has other images or another split.

        The recipe alone does not show this: `data.root` may have moved or hold another table.

        Raises:
            RecipeError: the split of the run in the folder differs.
        """
        written = self.path / "split.txt"
        if not written.is_file() or written.read_bytes() != split.to_text().encode():
            raise RecipeError(
                f"{self.path} holds a run with other images or another split of them ({written}): "
                "give the data it was made with, or choose another --out."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out of the run.

        Raises:
            RecipeError: another process is in it.
        """
        place = self.path / "lock"
        place.open("ab").close()
        lock = LockFile(place)
        try:
            if not lock.try_acquire(0):
                raise RecipeError(f"Another process is training {self.path}.")
            yield
        finally:
            lock.close()

    def scores(self, split: str) -> Path:
        """The table of a split's images with their scores."""
        return self.path / f"{split}.csv"

    def log(self, **fields: Any) -> None:
        """Adds one JSON line to the log."""
        with self._log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")

    def _check(self, resume: bool) -> bool:
        if self.path.exists() and not self.path.is_dir():
            raise RecipeError(f"The run cannot be written to {self.path}: it is a file.")
        begun = self.state.is_file()
        staged = self.stages.is_file()
        if (begun or staged) and not resume:
            raise RecipeError(
                f"{self.path} already holds a run: continue with --resume, or choose another --out."
            )
        # Check finished runs too: their figures must not be returned for another recipe.
        there = begun or staged or self.finished
        if resume and there and not self._replace and not self._is_of(self._recipe):
            raise RecipeError(
                f"{self.path} holds a run of another recipe ({self._recipe_file}): give that "
                "recipe, or choose another --out."
            )
        return begun

    def _is_of(self, recipe: Recipe) -> bool:
        """Whether the run in the folder computes the same as a recipe."""
        if not self._recipe_file.is_file():
            return False
        written = self._recipe_file.read_text("utf-8")
        return bool(computed(written) == computed(recipe.model_dump_json()))


def computed(recipe: str) -> Any:
    """The part of a recipe, given as JSON, that determines what its training computes.

    Default values are left out, so that a version with more options can resume the run.
    """
    content = json.loads(recipe)
    for section in _STAGES:
        content.pop(section, None)
    for section, key in _MAY_DIFFER:
        content[section].pop(key, None)
    return _told(content, Recipe)


def _told(content: dict[str, Any], section: type[BaseModel]) -> dict[str, Any]:
    """The values of a section and its nested sections that differ from their defaults."""
    told = {}
    for key, value in content.items():
        field = section.model_fields.get(key)
        kind = None if field is None else field.annotation
        if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, BaseModel):
            value = _told(value, kind)
        elif field is not None and value == _default(field):
            continue
        told[key] = value
    return told


def _default(field: FieldInfo) -> Any:
    """A key's default as JSON; for a required key, the field itself, which equals no JSON value."""
    if field.is_required():
        return field
    return to_jsonable_python(field.get_default(call_default_factory=True))
