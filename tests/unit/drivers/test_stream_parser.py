"""The parser of OVSDB messages: whatever the pieces, the same messages come out."""

from __future__ import annotations

import json
from typing import Any

import ovs.json
from hypothesis import given
from hypothesis import strategies as st

from netctl.drivers.stream_parser import StreamParser

TEXTS = st.text(st.sampled_from('ab{}[]",:\\ \n é€'), max_size=12)
VALUES = st.recursive(
    TEXTS | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)


def received(stream: str, pieces: list[int]) -> list[Any]:
    """What comes out, the way ovs.jsonrpc feeds it."""
    messages = []
    parser = StreamParser()
    at = 0
    sizes = iter(pieces)
    while at < len(stream):
        size = next(sizes, 7)
        waiting = stream[at : at + size]
        at += size
        while waiting:
            taken = parser.feed(waiting)
            assert taken > 0
            waiting = waiting[taken:]
            if parser.is_done():
                messages.append(parser.finish())
                parser = StreamParser()
    return messages


@given(
    st.lists(OBJECTS, min_size=1, max_size=4),
    st.lists(st.integers(1, 40), max_size=20),
    st.booleans(),
    st.sampled_from(["", "\n", "  "]),
)
def test_messages_survive_any_cutting(messages: list[Any], pieces: list[int], ascii_: bool, gap: str) -> None:
    stream = gap.join(json.dumps(message, ensure_ascii=ascii_) for message in messages)
    assert received(stream, pieces) == messages


@given(OBJECTS)
def test_it_agrees_with_the_one_of_ovs(message: Any) -> None:
    text = json.dumps(message)
    assert received(text, [len(text)]) == [ovs.json.from_string(text)] == [message]


def test_rubbish_is_told_in_words() -> None:
    for rubbish in ("x", "{]}", '{"a":1,}', "}"):
        parser = StreamParser()
        parser.feed(rubbish)
        assert parser.is_done()
        assert isinstance(parser.finish(), str)


def test_an_end_too_early_is_told_in_words() -> None:
    parser = StreamParser()
    parser.feed('{"a": "b')
    assert not parser.is_done()
    assert parser.finish() == "unexpected end of input"


def test_a_long_string_is_taken_in_at_once() -> None:
    """The schema comes as one string full of escaped quotes; pieces must not be looked at again and again."""
    from time import process_time

    text = json.dumps({"schema": json.dumps({f"column{n}": "x" for n in range(100_000)})})
    start = process_time()
    assert len(received(text, [4096] * (len(text) // 4096 + 1))) == 1
    assert process_time() - start < 2
