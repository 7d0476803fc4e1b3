"""Check results as JUnit XML, the form that CI systems read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from netctl.cli.outcome import Outcome, Told

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write (section 2.2)."""


def document(outcome: Outcome) -> bytes:
    """One test suite with a test case for each check, and one for what kept the checks from running.

    The bundles are properties of the suite, and each is one of the test cases that it is about.
    """
    totals = {
        "tests": str(len(outcome.told) + (outcome.error is not None)),
        "failures": str(len(outcome.failures)),
        "errors": str(int(outcome.error is not None)),
        "skipped": "0",
        "time": f"{outcome.seconds:.3f}",
    }
    suites = ElementTree.Element("testsuites", {"name": "netctl", **totals})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _clean(outcome.lab), **totals})
    _properties(suite, [("bundle", str(bundle)) for bundle in outcome.bundles])
    for each in outcome.told:
        _check(suite, outcome.lab, each)
    if outcome.error is not None:
        case = _case(suite, outcome.lab, "the lab", 0.0)
        kind = {"message": _clean(outcome.error.message), "type": type(outcome.error).__name__}
        ElementTree.SubElement(case, "error", kind).text = _clean(str(outcome.error))
    ElementTree.indent(suites)
    return bytes(ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _check(suite: ElementTree.Element, lab: str, told: Told) -> None:
    result = told.result
    case = _case(suite, lab, result.name, result.seconds)
    lines = [f"stated: {result.expected}", f"seen: {result.seen}", *result.evidence]
    if result.passed:
        ElementTree.SubElement(case, "system-out").text = _clean("\n".join(lines))
        return
    if told.trace:
        lines += ["trace:", *(f"  {line}" for line in told.trace)]
    if told.bundle is not None:
        _properties(case, [("bundle", str(told.bundle))])
        lines.append(f"bundle: {told.bundle}")
    failure = {"message": _clean(result.seen), "type": "CheckFailed"}
    ElementTree.SubElement(case, "failure", failure).text = _clean("\n".join(lines))


def _case(suite: ElementTree.Element, lab: str, name: str, seconds: float) -> ElementTree.Element:
    facts = {"classname": _clean(lab), "name": _clean(name), "time": f"{seconds:.3f}"}
    return ElementTree.SubElement(suite, "testcase", facts)


def _properties(of: ElementTree.Element, facts: Iterable[tuple[str, str]]) -> None:
    facts = list(facts)
    if facts:
        properties = ElementTree.SubElement(of, "properties")
        for name, value in facts:
            ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})


def _clean(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)
