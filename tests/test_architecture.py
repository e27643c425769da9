"""The layers of the package: imports go downwards, without cycles."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import qfm_iqm

PACKAGE = Path(qfm_iqm.__file__).parent

# From the bottom up: a package imports only from packages before it.
ROOMS = (
    "arrays",
    "telemetry",
    "errors",
    "exit_codes",
    "processes",
    "files",
    "text_tables",
    "method",
    "metrics",
    "image",
    "causes",
    "datasets",
    "model",
    "scoring",
    "integrations",
    "culling",
    "evaluation",
    "training",
    "report",
    "serve",
    "cli",
)
# Whatever the order above allows, these stay usable by themselves.
ALONE = {"method": {"errors"}, "metrics": {"arrays", "errors", "files", "text_tables"}}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below `qfm_iqm`."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports(path: Path, known: set[str], *, lazy: bool = True) -> set[tuple[str, int]]:
    """What a module imports of the package: (dotted name below it, line).

    Args:
        path: the module's file.
        known: names of all modules.
        lazy: also imports in functions and only for type checking.
    """
    tree = ast.parse(path.read_text("utf-8"))
    found = set()
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            continue
        for name in names:
            inner = name.removeprefix("qfm_iqm.")
            if inner != name and inner in known:
                found.add((inner, node.lineno))
    return found


def room(module: str) -> str:
    """The first part of a module's name."""
    return module.partition(".")[0]


def test_every_room_is_known() -> None:
    rooms = {room(name) for name in modules()} - {"", "__main__"}
    assert rooms == set(ROOMS)


def test_imports_run_downwards() -> None:
    known = modules()
    upwards = [
        f"{path.relative_to(PACKAGE)}:{line} imports {target}"
        for name, path in known.items()
        if room(name) in ROOMS
        for target, line in imports(path, set(known))
        if room(target) in ROOMS and ROOMS.index(room(target)) > ROOMS.index(room(name))
    ]
    assert not upwards, "\n".join(sorted(upwards))


@pytest.mark.parametrize("name", ALONE)
def test_some_rooms_stand_alone(name: str) -> None:
    known = modules()
    others = [
        f"{path.relative_to(PACKAGE)}:{line} imports {target}"
        for module, path in known.items()
        if room(module) == name
        for target, line in imports(path, set(known))
        if room(target) not in ALONE[name] | {name}
    ]
    assert not others, "\n".join(sorted(others))


def test_no_module_imports_itself_by_a_detour() -> None:
    known = modules()
    arrows = defaultdict(set)
    for name, path in known.items():
        found = imports(path, set(known), lazy=False)
        arrows[name] = {target for target, _ in found if target not in (name, "")}
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            pytest.fail("a cycle: " + " -> ".join((*way[way.index(name) :], name)))
        if name in done:
            return
        for target in sorted(arrows[name]):
            walk(target, (*way, name))
        done.add(name)

    for name in sorted(known):
        walk(name, ())
