"""Stages of a run, recorded with the hashes of their inputs and outputs.

`stages.json` in the run's folder holds the hashes of each stage. A stage whose inputs and outputs
match the record is skipped; a stage whose inputs have changed is repeated with every later stage of
the same network; an interrupted stage resumes.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from qfm_iqm.errors import ModelError, reason_of
from qfm_iqm.files import sha256_of, text_hash, write_whole

NETWORK = ("training", "network", "test", "reference", "export", "card")
"""Stages of one network in order: later stages use the outputs of earlier ones."""

State = Literal["done", "begun", "new"]


class Stages:
    """The record of a run's stages.

    With several processes, the first keeps the record and the others follow it.

    Args:
        file: `stages.json`.
        say: called with a message for each stage that is repeated.

    Raises:
        ModelError: the file cannot be read as such a record.
    """

    def __init__(self, file: Path, say: Callable[[str], None]) -> None:
        self._file = file
        self._say = say
        self._main = PartialState().is_main_process
        try:
            content = json.loads(file.read_text("utf-8")) if file.is_file() else {}
            self._stages: dict[str, dict[str, dict[str, str]]] = dict(content.get("stages", {}))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ModelError(
                f"The record of stages {file} cannot be read: {reason_of(error)}."
            ) from error

    def __contains__(self, name: str) -> bool:
        """Whether a stage has ever begun."""
        return name in self._stages

    def begin(self, name: str, inputs: Callable[[], Mapping[str, str]]) -> State:
        """Checks whether a stage is done; if not, records that it begins.

        Args:
            name: name of the stage.
            inputs: returns the hashes of the stage's inputs by name.

        Returns:
            "done"; "begun" if it began earlier with the same inputs and may resume; or "new".
        """
        found: list[Any] = [self._look(name, dict(inputs())) if self._main else None]
        broadcast_object_list(found)
        return "new" if found[0] is None else found[0]

    def _look(self, name: str, inputs: dict[str, str]) -> State:
        known = self._stages.get(name)
        same = known is not None and known["inputs"] == inputs
        if known is not None and same and (outputs := known.get("outputs")) is not None:
            root = self._file.parent
            if {file: file_hash(root / file) for file in outputs} == outputs:
                return "done"
            self._say(f"The stage {name} is repeated: its files are missing or have changed.")
            same = False
        elif known is not None and not same:
            before = known["inputs"]
            changed = [key for key in {**before, **inputs} if before.get(key) != inputs.get(key)]
            self._say(
                f"The stage {name} is repeated, because these have changed: {', '.join(changed)}."
            )
        later = NETWORK[NETWORK.index(name) + 1 :] if name in NETWORK else ()
        for other in later:
            self._stages.pop(other, None)
        self._stages[name] = {"inputs": inputs}
        self._write()
        return "begun" if same else "new"

    def end(self, name: str, outputs: Iterable[Path]) -> None:
        """Records that a stage is done, with hashes of its files; synchronizes all processes."""
        if self._main:
            root = self._file.parent
            files = sorted(os.path.relpath(path, root) for path in outputs)
            self._stages[name]["outputs"] = {file: file_hash(root / file) for file in files}
            self._write()
        PartialState().wait_for_everyone()

    def once(
        self,
        name: str,
        inputs: Callable[[], Mapping[str, str]],
        make: Callable[[], Iterable[Path]],
    ) -> None:
        """Runs a stage unless it is done; with several processes, only the first runs it.

        Args:
            name: name of the stage.
            inputs: returns the hashes of the stage's inputs by name.
            make: runs the stage and returns the files it wrote.
        """
        if self.begin(name, inputs) != "done":
            self.end(name, make() if self._main else ())

    def _write(self) -> None:
        write_whole(json.dumps({"format": 1, "stages": self._stages}, indent=1) + "\n", self._file)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content; empty if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return ""  # reading it for its purpose will say why


def files_hash(paths: Sequence[Path]) -> str:
    """One SHA-256 over the contents of files, in order."""
    return text_hash("\n".join(map(file_hash, paths)))
