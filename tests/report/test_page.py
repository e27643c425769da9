import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfm_iqm.report.page import asset, inline_json, render, with_parts
from qfm_iqm.report.scores import SCRIPTS


class Page(HTMLParser):
    """What a browser's parser makes of a page: elements, and the text of styles and scripts."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.blocks, self._open, self.title = [], {}, None, ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open = tag
        if tag in ("script", "style"):
            self.blocks.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open in ("script", "style"):
            self.blocks[self._open][-1] += data
        if self._open == "title":
            self.title += data


def page(data, title="Title"):
    return render(
        "report.html",
        title=title,
        styles=["base.css", "report.css"],
        scripts=[*SCRIPTS, "report.js"],
        data=data,
    )


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "{{script}}",
    "a&amp;b",
    "\u2028\u2029",
    "\udce9",
]


def test_parts_are_put_in_and_slots_stay():
    assert with_parts("<p>{{title}}</p>{{choosing.html}}") == "<p>{{title}}</p>" + asset(
        "choosing.html"
    )


def test_data_come_out_as_they_went_in():
    found = Page(page({"names": HOSTILE}))
    data, _script = found.blocks["script"]
    assert json.loads(data) == {"names": HOSTILE}
    assert len(found.blocks["script"]) == 2


@given(st.text())
def test_no_text_leaves_its_block(text):
    inlined = inline_json({"x": text})
    assert "<" not in inlined
    assert inlined.isascii()
    assert json.loads(inlined) == {"x": text}


def test_the_title_is_text():
    found = Page(page({}, title="<b>{{data}}</b>"))
    assert found.title == "<b>{{data}}</b>"
    assert "b" not in [tag for tag, _ in found.tags]


def test_the_policy_names_exactly_what_is_inside():
    found = Page(page({"a": 1}))
    policy = next(a["content"] for tag, a in found.tags if a.get("http-equiv"))
    (style,) = found.blocks["style"]
    script = found.blocks["script"][1]
    for kind, content in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_nothing_is_fetched_from_elsewhere():
    found = Page(page({}))
    for tag, attributes in found.tags:
        for name in ("src", "href", "srcset", "action"):
            assert attributes.get(name, "data:,") == "data:,", tag
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    for style in found.blocks["style"]:
        assert "@import" not in style
        assert "url(" not in style


@pytest.mark.parametrize("name", [*SCRIPTS, "report.js", "compare.js"])
def test_scripts_only_ever_set_text(name):
    source = asset(name)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", source)
    assert "</script" not in source
