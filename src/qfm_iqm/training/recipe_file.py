"""Reads recipes from TOML files and applies changes from the command line.

The whole recipe is validated before anything is loaded; errors name the key. `--set key=value`
changes one key, with the value in TOML syntax (quotes around text are optional). A teacher's recipe
comes from its own file or from the surrounding recipe.
"""

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from qfm_iqm.datasets.catalogue import DATASETS, find_dataset
from qfm_iqm.errors import RecipeError, nearest, reason_of
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.recipe_schema import FINISHING

Checked = TypeVar("Checked", bound=BaseModel)


def read_recipe(
    path: Path,
    changes: Iterable[str] = (),
    *,
    dataset: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> Recipe:
    """Reads and checks a recipe.

    Args:
        path: a TOML file.
        changes: "key=value" each: a dotted key and a value in TOML syntax; applied last.
        dataset: name of a dataset, which lies under `data.root` in its official layout; sets the
            keys of `dataset_keys`.
        values: further dotted keys with their values; applied before `changes`.

    Raises:
        RecipeError: a key is wrong; the message names it, the value found and what is allowed.
        TableError: there is no such dataset.
    """
    own = {} if dataset is None else dataset_keys(dataset)
    content = read_content(path, changes, own | dict(values or {}))
    if isinstance(model := content.setdefault("model", {}), dict):
        model.setdefault("name", path.stem if dataset is None else f"{path.stem}-{dataset}")
    return check_recipe(_with_teachers(content, path), str(path))


def read_content(
    path: Path, changes: Iterable[str] = (), values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The plain values of a recipe file, with `values` and then `changes` applied.

    Raises:
        RecipeError: the file cannot be read, or a change cannot be applied.
    """
    content = _read(path)
    for key, value in [*(values or {}).items(), *map(parse_change, changes)]:
        _put(content, key, value)
    return content


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))  # some editors add a byte order mark
    except FileNotFoundError:
        raise RecipeError(f"There is no file {path}.") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read: {reason_of(error)}.") from error


def _with_teachers(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Gives each teacher of a recipe a complete recipe, on the data of this one."""
    teachers = content.get("teachers")
    if not isinstance(teachers, dict):
        return content
    filled = {}
    for name, teacher in teachers.items():
        if not isinstance(teacher, dict) or "model" in teacher:
            filled[name] = teacher
            continue
        file, changes = teacher.get("recipe"), teacher.get("set", {})
        if unknown := teacher.keys() - {"recipe", "set"}:
            raise RecipeError(
                f"In {path}: unknown key 'teachers.{name}.{min(unknown)}' (a teacher has model, "
                "or recipe and set)."
            )
        if file is None:
            base, place = {k: v for k, v in content.items() if k not in _STAGES}, path
        else:
            place = path.parent / str(file)
            base = {k: v for k, v in _read(place).items() if k not in FINISHING}
        for section, key in _WHERE:
            if key in content.get(section, {}) and (section == "train" or section in base):
                base[section] = base.get(section, {}) | {key: content[section][key]}
        model = {"name": f"{content['model'].get('name')}-{name}"}
        base = _merged(base | {"data": content.get("data", {}), "model": model}, changes)
        filled[name] = {"recipe": _with_facts(_with_teachers(base, place))}
    return content | {"teachers": filled}


_STAGES = {*FINISHING, "teachers", "pseudo_labels", "distillation"}
# Keys that depend on the machine: device, worker processes, path of a table.
_WHERE = (("train", "device"), ("train", "workers"), ("augment", "cells"))


def _merged(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables with some of their keys changed."""
    merged = dict(content)
    for key, value in changes.items():
        known = merged.get(key)
        both = isinstance(known, dict) and isinstance(value, dict)
        merged[key] = _merged(known or {}, value) if both else value
    return merged


def dataset_keys(name: str) -> dict[str, Any]:
    """The recipe keys that a dataset sets: dataset, group, batch size and shorter side.

    Raises:
        TableError: there is no such dataset.
    """
    facts = find_dataset(name)
    return {
        "data.dataset": name,
        "data.group": facts.group,
        "train.batch_size": facts.batch_size,
        "network.shorter_side": facts.shorter_side,
    }


def check_recipe(content: dict[str, Any], source: str = "the recipe") -> Recipe:
    """Validates plain values as a recipe; RecipeError names the first wrong key."""
    return validated(Recipe, _with_facts(content), source)


def validated(schema: type[Checked], content: dict[str, Any], source: str) -> Checked:
    """Validates plain values by a schema; RecipeError names the first wrong key."""
    # Through JSON, where strict models accept paths and tuples.
    try:
        return schema.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"unknown key '{key}'{_nearest(key, schema)}"
        elif first["type"] == "missing":
            or_set = f" or with --set {key}=..." if "." in key else ""
            message = f"'{key}' is missing: give it in the file{or_set}"
        elif key:
            found = first["input"]
            which = f"[{key}]" if isinstance(found, dict) else f"{key} = {found!r}"
            message = f"{which} is refused: {message[0].lower()}{message[1:]}"
        raise RecipeError(f"In {source}: {message}.") from None


def _with_facts(content: dict[str, Any]) -> dict[str, Any]:
    """Adds a dataset's label units, name and terms where the recipe does not set them."""
    data = content.get("data")
    name = data.get("dataset") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(name, str) or name not in DATASETS:
        return content
    facts = DATASETS[name]
    units = {
        "name": facts.label,
        "minimum": facts.minimum,
        "maximum": facts.maximum,
        "higher_is_better": facts.higher_is_better,
    }
    told = {"name": facts.title, "terms": facts.terms, "label": units}
    return content | {"data": told | data}


def parse_change(change: str) -> tuple[str, Any]:
    """Splits one "a.b=value" into key and value.

    Raises:
        RecipeError: there is no key.
    """
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set takes key=value, not '{change}'.")
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), text.strip()


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key in nested tables."""
    *tables, last = key.split(".")
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise RecipeError(f"{key} cannot be set: '{table}' is not a table of the recipe.")
    content[last] = value


def _nearest(key: str, schema: type[BaseModel]) -> str:
    """A hint with the key that was probably meant."""
    known = [other for other in recipe_keys(schema) if other.count(".") == key.count(".")]
    return nearest(key, known)


def recipe_keys(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """All dotted keys of a section and its nested sections; NAME stands for a user-given name."""
    for name, field in section.model_fields.items():
        yield prefix + name
        named = "NAME." if get_origin(field.annotation) is dict else ""
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not Recipe:
                yield from recipe_keys(kind, f"{prefix}{name}.{named}")
