"""Patches of a file, and what is wrong with a file as a story patches it."""

from __future__ import annotations

from typing import Any

import pytest

from netctl.errors import InputError
from netctl.intent import loads
from netctl.intent.patches import merged

FILE = """\
name: patch
hosts: {hv1: {}}
subnets: {lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}}
vms: {a: {host: hv1, nics: [{subnet: lan}]}}
checks:
  - name: a story
    steps:
      - {apply: PATCH}
      - {check: {from: a, to: b}}
"""


@pytest.mark.parametrize(
    ("data", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge(data: Any, patch: Any, result: Any) -> None:
    assert merged(data, patch) == result


def test_what_follows_a_patch_is_judged_with_it() -> None:
    loads(FILE.replace("PATCH", "{vms: {b: {host: hv1, nics: [{subnet: lan}]}}}"))


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ("{subnets: {lan: {mtu: 9000}}}", "there is no VM or bare machine `b`"),
        ("{vms: {b: {host: hv9, nics: [{subnet: lan}]}}}", "there is no host `hv9`"),
        ("{subnets: {lan: {vlan: 4095}}, vms: {b: {nics: [{subnet: lan}]}}}", "4095"),
        ("{subnets: {lan: null}}", "there is no subnet `lan`"),
    ],
)
def test_a_patch_that_breaks_the_file_is_refused_where_it_stands(patch: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        loads(FILE.replace("PATCH", patch), "f.yaml")
    assert any(said in problem.message and problem.line == 8 for problem in caught.value.problems), (
        caught.value.problems
    )
