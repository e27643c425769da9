"""Renders a page as one file with template, styles, scripts and data, which works offline.

Design choices:
* HTML, CSS and JavaScript are separate files in `static/`; scripts share one scope, so that they
  can be concatenated without a bundler.
* A Content Security Policy allows only these styles and scripts, by hash: even if a file name were
  injected into the markup, it would not run, and nothing is fetched over the network.
* Data are JSON in a block that browsers do not execute, with every `<` escaped.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

import qfm_iqm
from qfm_iqm.scoring.row import SCHEMA

# Columns that pages show elsewhere than in an image's facts, or not at all.
_NO_FACTS = ("path", "sha256", "score", "status", "error", "weights", "seconds")
_SLOT = re.compile(r"\{\{(\w+)\}\}")
_PART = re.compile(r"\{\{(\w+\.html)\}\}")


def asset(name: str) -> str:
    """The text of a file in `static/`."""
    return (resources.files("qfm_iqm.report") / "static" / name).read_text("utf-8")


def with_parts(markup: str) -> str:
    """Inserts the files of `static/` that markup names in braces, such as `{{choosing.html}}`."""
    return _PART.sub(lambda part: asset(part.group(1)), markup)


def words_of(columns: Iterable[str]) -> list[dict[str, str]]:
    """Name, title, type and help text of the columns that pages show as an image's facts."""
    return [asdict(SCHEMA[name]) for name in columns if name not in _NO_FACTS]


def render(
    template: str,
    *,
    title: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    data: Mapping[str, Any],
) -> str:
    """Renders a page as HTML.

    Args:
        template: name of the HTML file with the body's markup, which is put into `frame.html`.
        title: title of the page.
        styles: names of the CSS files, in order.
        scripts: names of the JavaScript files, in order.
        data: JSON data for the scripts.
    """
    style = "\n".join(asset(name) for name in styles)
    script = "\n".join(asset(name) for name in scripts)
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src 'self' file: data: blob:"
    )
    slots = {
        "title": html.escape(title),
        "policy": policy,
        "style": style,
        "script": script,
        "data": inline_json(data),
        "made": f"Made by qfm-iqm {qfm_iqm.__version__}.",
    }
    page = asset("frame.html").replace("{{body}}", with_parts(asset(template)))
    # One pass, so that inserted text is not searched for slots.
    return _SLOT.sub(lambda slot: slots[slot.group(1)], page)


def inline_json(data: Mapping[str, Any]) -> str:
    """JSON that is safe in a script block: only ASCII, without `<`."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
