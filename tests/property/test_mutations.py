"""Whatever is done to a lab's file: it loads, or every mistake is told. Nothing else ever happens.

NETCTL_EXAMPLES sets how many mutations are tried (600; make soak: 10,000).
"""

from __future__ import annotations

import copy
import datetime
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netctl.errors import InputError
from netctl.intent import dump, source, stages
from netctl.model import Intent

LABS = sorted((Path(__file__).parents[1] / "unit" / "contract").glob("*.yaml"))
TEXTS = [lab.read_text() for lab in LABS]
VALUES = [source.compose(text, "lab.yaml").data for text in TEXTS]
EXAMPLES = int(os.environ.get("NETCTL_EXAMPLES", "600"))

try_them = settings(
    max_examples=max(1, EXAMPLES // 2),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

_WORDS = """
    all any none web1 hv1 hv9 tor1 vs0 vs1 eth0 br0 shop app lan internet inspect fw web1/0 web1/7 web1/-1
    10.10.0.11 10.10.0.0/24 0.0.0.0/0 255.255.255.255 10.10.0.5-10.10.0.9 10.10.0.9-10.10.0.5 10.0.0.0/32
    fd00::/64 tcp/80 tcp/99999 icmp overlay vlan vlan-basic external trunk access dhcp true yes off null ~
    1.5s 2 balance-tcp active reroute 50:6b:8d:00:00:01 ff:ff:ff:ff:ff:ff 010 0x1f 1e3 link << &a *a é \u2028
"""
WORDS = st.sampled_from(
    [*_WORDS.split(), "link hv1 eth0", "daemon hv1 ovn-controller", "host hv1", "", " ", "a" * 5000, "x\ny"]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.integers(-1, 70000),
    st.floats(),
    st.dates(datetime.date(1, 1, 1)),
    st.text(max_size=8),
    WORDS,
)
ANYTHING = st.one_of(
    SCALARS,
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.one_of(WORDS, SCALARS), inner, max_size=3)
        ),
        max_leaves=5,
    ),
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (owner, key or index) in a tree."""
    found = []
    for key, item in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        found.append((value, key))
        if isinstance(item, dict | list):
            found += _places(item)
    return found


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A lab's values with a few of them deleted, doubled, swapped, renamed or replaced."""
    data = copy.deepcopy(draw(st.sampled_from(VALUES)))
    for _ in range(draw(st.integers(1, 5))):
        places = _places(data)
        if not places:
            break
        owner, key = (
            draw(st.sampled_from(places))
            if len(places) < 300
            else places[draw(st.integers(0, len(places) - 1))]
        )
        what = draw(st.sampled_from(["delete", "double", "swap", "rename", "replace", "replace", "wrap"]))
        if what == "delete":
            del owner[key]
        elif what == "double" and isinstance(owner, list):
            owner.insert(key, copy.deepcopy(owner[key]))
        elif what in ("double", "rename") and isinstance(owner, dict):
            new = draw(st.one_of(WORDS, st.sampled_from([str(other) for _, other in places])))
            owner[new] = copy.deepcopy(owner[key]) if what == "double" else owner.pop(key)
        elif what == "swap":
            other, there = draw(st.sampled_from(places))
            value = copy.deepcopy(other[there])
            owner[key] = value
        elif what == "wrap":
            owner[key] = draw(st.sampled_from([[owner[key]], {"name": owner[key]}, [[owner[key]]]]))
        else:
            owner[key] = draw(ANYTHING)
    return yaml.safe_dump(
        data, sort_keys=draw(st.booleans()), default_flow_style=draw(st.sampled_from([None, True, False]))
    )


@st.composite
def scratched(draw: st.DrawFn) -> bytes:
    """A lab's text with a few octets cut, doubled or overwritten."""
    content = bytearray(draw(st.sampled_from(TEXTS)).encode())
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 12))
        piece = draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from(
                    [
                        b"",
                        b":",
                        b"\t",
                        b"- ",
                        b"{",
                        b"]",
                        b"'",
                        b"&a ",
                        b"*a",
                        b"<<: ",
                        b"!!int ",
                        b"\n",
                        b"---\n",
                    ]
                ),
                st.just(bytes(content[start : start + length]) * 2),
            )
        )
        content[start : start + length] = piece
    return bytes(content)


def load_or_refuse(text: str) -> Intent | None:
    """The intent; None when it was refused as it should be. Anything else that happens is raised."""
    try:
        intent = stages.loads(text, "lab.yaml", supported_only=False)
    except InputError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.line >= 1 and problem.column >= 1
            assert problem.message and "\n" not in problem.message
            assert problem.hint and "\n" not in problem.hint
        return None
    return intent


def same(one: Intent, other: Intent) -> bool:
    """Whether two intents are the same but for what is written and what is assigned."""
    return (
        (one.switches, one.links, one.rstp, one.hosts, one.placement)
        == (other.switches, other.links, other.rstp, other.hosts, other.placement)
        and one.ports == other.ports
        and {name: it.mac for name, it in one.machines.items()}
        == {name: it.mac for name, it in other.machines.items()}
    )


@try_them
@given(mutated())
def test_values(text: str) -> None:
    intent = load_or_refuse(text)
    if intent is not None:
        again = load_or_refuse(dump(intent))
        assert again is not None and same(intent, again)
        assert load_or_refuse(dump(intent.file)) == intent


@try_them
@given(scratched())
def test_octets(content: bytes) -> None:
    try:
        text = source.decode(content, "lab.yaml")
    except InputError as error:
        assert error.problems
        return
    load_or_refuse(text)


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_unharmed(lab: Path) -> None:
    assert load_or_refuse(lab.read_text()) is not None
