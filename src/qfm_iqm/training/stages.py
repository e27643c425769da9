"""What a run has done: its stages, each with the hashes of what it was made of and of what it gave.

`stages.json` under the run holds a line of hashes for each stage. A stage whose inputs and outputs
are those of the record is not done again; one whose inputs have changed is done anew, and so is
every later stage of the same network; one that was interrupted goes on.
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
"""Stages of one network, in their order: what one of them gives, the later ones are made of."""

State = Literal["done", "begun", "new"]


class Stages:
    """The record of a run's stages.

    Of several processes the first keeps the record, and the others follow it.

    Args:
        file: `stages.json`.
        say: told which stages are done anew, and why.

    Raises:
        ModelError: the file is no such record.
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
        """Looks whether a stage is done, and notes that it begins if it is not.

        Args:
            name: of the stage.
            inputs: gives the hashes of what the stage is made of, by name.

        Returns:
            "done"; "begun" if it may go on, having begun with the same inputs; or "new".
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
            self._say(f"The stage {name} is done again: what it gave is not there as it was.")
            same = False
        elif known is not None and not same:
            before = known["inputs"]
            changed = [key for key in {**before, **inputs} if before.get(key) != inputs.get(key)]
            self._say(f"The stage {name} is done anew: changed is {', '.join(changed)}.")
        later = NETWORK[NETWORK.index(name) + 1 :] if name in NETWORK else ()
        for other in later:
            self._stages.pop(other, None)
        self._stages[name] = {"inputs": inputs}
        self._write()
        return "begun" if same else "new"

    def end(self, name: str, outputs: Iterable[Path]) -> None:
        """Notes that a stage is done, with the hashes of its files; all processes meet here."""
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
        """Does a stage unless it is done; of several processes the first does it.

        Args:
            name: of the stage.
            inputs: gives the hashes of what the stage is made of, by name.
            make: does it, and gives the files that it wrote.
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
    """One SHA-256 for the contents of files in their order."""
    return text_hash("\n".join(map(file_hash, paths)))
