"""Check results as JUnit XML, the form that CI systems read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from dataplane.checks import Result
    from netctl.errors import NetctlError

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write (section 2.2)."""


def document(lab: str, results: Sequence[Result], seconds: float, error: NetctlError | None) -> bytes:
    """One test suite, a test case for each check; `error` is what kept the checks from running."""
    failures = sum(not result.passed for result in results)
    totals = {
        "tests": str(len(results) + (error is not None)),
        "failures": str(failures),
        "errors": str(int(error is not None)),
        "skipped": "0",
        "time": f"{seconds:.3f}",
    }
    suites = ElementTree.Element("testsuites", {"name": "netctl", **totals})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _clean(lab), **totals})
    for result in results:
        case = _case(suite, lab, result.name, result.seconds)
        story = _clean("\n".join([f"stated: {result.expected}", f"seen: {result.seen}", *result.evidence]))
        if result.passed:
            ElementTree.SubElement(case, "system-out").text = story
        else:
            failure = {"message": _clean(result.seen), "type": "CheckFailed"}
            ElementTree.SubElement(case, "failure", failure).text = story
    if error is not None:
        case = _case(suite, lab, "the lab", 0.0)
        kind = {"message": _clean(error.message), "type": type(error).__name__}
        ElementTree.SubElement(case, "error", kind).text = _clean(str(error))
    ElementTree.indent(suites)
    return bytes(ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(suite: ElementTree.Element, lab: str, name: str, seconds: float) -> ElementTree.Element:
    facts = {"classname": _clean(lab), "name": _clean(name), "time": f"{seconds:.3f}"}
    return ElementTree.SubElement(suite, "testcase", facts)


def _clean(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)
