"""Writes a gate's verdicts as JUnit XML and JSON for other programs."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from qfm_iqm.report.scores import split_path
from qfm_iqm.scoring.gate import OUTCOMES, Rule, Verdict, exit_code

# Characters that XML 1.0 does not allow, not even as references.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Number of images by outcome."""
    found = Counter(verdict.outcome for verdict in verdicts)
    return {outcome: found[outcome] for outcome in OUTCOMES}


def without_baseline(verdicts: Sequence[Verdict], rule: Rule) -> int:
    """Number of scored images that are missing in a required baseline."""
    if rule.max_drop is None:
        return 0
    return sum(verdict.score is not None and verdict.baseline is None for verdict in verdicts)


def junit_xml(verdicts: Sequence[Verdict], rule: Rule, model: str, seconds: float) -> str:
    """JUnit XML: each image is a test case; images to be reviewed count as skipped.

    Args:
        verdicts: verdicts on the images.
        rule: the gate's rule.
        model: name of the model.
        seconds: duration of scoring.
    """
    number = counts(verdicts)
    totals = {
        "name": "qfm gate",
        "tests": str(len(verdicts)),
        "failures": str(number["fail"]),
        "errors": str(number["error"]),
        "skipped": str(number["review"]),
        "time": f"{seconds:.3f}",
    }
    root = ElementTree.Element("testsuites", totals)
    suite = ElementTree.SubElement(root, "testsuite", totals)
    facts = ElementTree.SubElement(suite, "properties")
    said = {"model": model, "rule": rule.describe()}
    if rule.max_drop is not None:
        said["without_baseline"] = str(without_baseline(verdicts, rule))
    for name, value in said.items():
        ElementTree.SubElement(facts, "property", name=name, value=_xml_text(value))
    each = seconds / max(1, len(verdicts))
    for verdict in verdicts:
        folder, name = split_path(verdict.path)
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=_xml_text(folder.rstrip("/") or "."),
            name=_xml_text(name),
            time=f"{each:.3f}",
        )
        kind = {"fail": "failure", "error": "error", "review": "skipped"}.get(verdict.outcome)
        if kind is not None:
            ElementTree.SubElement(case, kind, message=_xml_text(verdict.reason))
        if verdict.score is not None:
            doubt = ", out of distribution" if verdict.out_of_distribution else ""
            ElementTree.SubElement(case, "system-out").text = f"score {verdict.score:g}{doubt}"
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def gate_json(verdicts: Sequence[Verdict], rule: Rule, model: str, seconds: float) -> str:
    """JSON with the rule, the counts, the exit code and a verdict per image."""
    content: dict[str, Any] = {
        "model": model,
        "rule": asdict(rule),
        "counts": counts(verdicts),
        "without_baseline": without_baseline(verdicts, rule),
        "exit_code": exit_code(verdicts),
        "seconds": round(seconds, 3),
        "images": [asdict(verdict) for verdict in verdicts],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _xml_text(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
