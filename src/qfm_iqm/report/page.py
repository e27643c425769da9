"""A page in one file: template, styles, scripts and data put together, readable offline.

Design choices:
* HTML, CSS and JavaScript are real files in `static/`; scripts are plain ones that share a scope,
  so that they can be put one after another without a bundler.
* A Content Security Policy names the hashes of exactly these styles and scripts: even if a file's
  name found its way into the markup, nothing in it would run, and nothing is fetched by network.
* Data are JSON in a block that no browser executes, with every `<` written as an escape.
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

# Columns that pages show elsewhere than among an image's facts, or that say nothing to readers.
_NO_FACTS = ("path", "sha256", "score", "status", "error", "weights", "seconds")
_SLOT = re.compile(r"\{\{(\w+)\}\}")
_PART = re.compile(r"\{\{(\w+\.html)\}\}")


def asset(name: str) -> str:
    """The text of a file in `static/`."""
    return (resources.files("qfm_iqm.report") / "static" / name).read_text("utf-8")


def with_parts(markup: str) -> str:
    """Markup with the files of `static/` that it names in braces, as `{{choosing.html}}`."""
    return _PART.sub(lambda part: asset(part.group(1)), markup)


def words_of(columns: Iterable[str]) -> list[dict[str, str]]:
    """Name, title, type and help text of those columns that pages show as facts of an image."""
    return [asdict(SCHEMA[name]) for name in columns if name not in _NO_FACTS]


def render(
    template: str,
    *,
    title: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    data: Mapping[str, Any],
) -> str:
    """A page as text.

    Args:
        template: name of the HTML file that holds the body's markup; `frame.html` is around it.
        title: of the page.
        styles: names of the CSS files, in order.
        scripts: names of the JavaScript files, in order.
        data: what the scripts draw; JSON.
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
    # One pass: what is put in is not looked through for slots again.
    return _SLOT.sub(lambda slot: slots[slot.group(1)], page)


def inline_json(data: Mapping[str, Any]) -> str:
    """JSON that can stand inside a script block: ASCII alone, and no `<`."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
