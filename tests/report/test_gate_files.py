import json
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from qfm_iqm.report.gate_files import gate_json, junit_xml
from qfm_iqm.scoring.gate import Rule, Verdict

VERDICTS = [
    Verdict("in/a.jpg", "pass", 71.5, None, ""),
    Verdict("in/b.jpg", "review", 55.0, None, "55 is within the review band 50 to 60."),
    Verdict("c.jpg", "fail", 20.0, 30.0, "20 is below the limit of 60."),
    Verdict("in/<d>&\".jpg", "error", None, None, "cannot read 'd': it is empty"),
]  # fmt: skip


def test_junit_says_what_was_found():
    root = ElementTree.fromstring(junit_xml(VERDICTS, Rule(60, (50, 60)), "m", 2.0).encode())
    assert root.tag == "testsuites"
    (suite,) = root
    for element in (root, suite):
        found = [element.get(name) for name in ("tests", "failures", "errors", "skipped")]
        assert found == ["4", "1", "1", "1"]
    cases = suite.findall("testcase")
    assert [case.get("classname") for case in cases] == ["in", "in", ".", "in"]
    assert [case.get("name") for case in cases] == ["a.jpg", "b.jpg", "c.jpg", '<d>&".jpg']
    assert [[part.tag for part in case] for case in cases] == [
        ["system-out"], ["skipped", "system-out"], ["failure", "system-out"], ["error"],
    ]  # fmt: skip
    assert cases[2].find("failure").get("message") == "20 is below the limit of 60."
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert properties == {"model": "m", "rule": "score >= 60, 50 to 60 to be reviewed"}


def test_files_count_what_the_baseline_says_nothing_of():
    facts = (VERDICTS, Rule(60, max_drop=2), "m", 2.0)  # a and b: c has a baseline, d has no score
    suite = ElementTree.fromstring(junit_xml(*facts).encode())[0]
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert properties["without_baseline"] == "2"
    assert json.loads(gate_json(*facts))["without_baseline"] == 2


@given(st.text(min_size=1), st.text())
def test_no_name_breaks_the_xml(name, reason):
    text = junit_xml([Verdict(name, "fail", 1.0, None, reason)], Rule(2), "m", 0.0)
    ElementTree.fromstring(text.encode())  # as a reader of the file does


def test_json_says_what_was_found():
    found = json.loads(gate_json(VERDICTS, Rule(60, (50, 60)), "m", 2.0))
    assert found["counts"] == {"pass": 1, "review": 1, "fail": 1, "error": 1}
    assert found["exit_code"] == 2
    assert found["without_baseline"] == 0  # none was requested
    assert found["rule"]["limit"] == 60
    assert found["images"][2] == {
        "path": "c.jpg",
        "outcome": "fail",
        "score": 20.0,
        "baseline": 30.0,
        "reason": "20 is below the limit of 60.",
        "out_of_distribution": None,
    }
