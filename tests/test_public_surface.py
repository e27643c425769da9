"""Verbs, options, recipe keys, columns and names change only on purpose: `make surface`."""

from collections import defaultdict

import typer

from qfm_iqm.cli.commands import app

from .public_surface import FILE, surface


def test_the_public_surface_is_the_committed_one():
    assert surface() == FILE.read_text("utf-8")


def test_an_option_has_the_same_short_name_in_every_verb():
    def verbs(command):
        inner = getattr(command, "commands", {}).values()
        return [one for each in inner for one in verbs(each)] or [command]

    shorts = defaultdict(set)
    for verb in verbs(typer.main.get_command(app)):
        for option in verb.params:
            if option.param_type_name == "option":
                long = next(name for name in option.opts if name.startswith("--"))
                shorts[long].add(tuple(option.opts))
    assert {long: names for long, names in shorts.items() if len(names) > 1} == {}
    assert "--part" not in shorts
