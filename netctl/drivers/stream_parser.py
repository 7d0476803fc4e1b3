"""The C parser of Python's json in place of the one in Python that the `ovs` package falls back to.

That one goes through a stateful function call per character: a schema alone takes it a tenth of a second.
`ovs.jsonrpc` feeds a parser with what the socket had, some kilobytes at a time.
"""

from __future__ import annotations

import json
import re
from typing import Any

import ovs.json

# A string, or the part of one that goes on in the next piece. The group is its closing quote, if it came.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+("|\\?\Z)', re.DOTALL)
_NEXT = re.compile(r"\}\s*\{")
_DECODER = json.JSONDecoder()


class StreamParser:
    """One JSON object out of a stream of text; the same methods as `ovs.json.Parser`."""

    def __init__(self, check_trailer: bool = False) -> None:
        self._check_trailer = check_trailer
        self._parts: list[str] = []
        self._length = 0
        self._depth = 0
        self._carry = ""  # what to put before the next piece when this one ends inside a string
        self._result: Any = None
        self._done = False

    def feed(self, text: str) -> int:
        """Take some of the stream; returns how much of it belongs to this object."""
        before = self._length
        self._parts.append(text)
        self._length += len(text)
        if not self._ends_in(text):
            return len(text)
        whole = "".join(self._parts)
        self._done = True
        try:
            self._result, end = _DECODER.raw_decode(whole, len(whole) - len(whole.lstrip()))
        except json.JSONDecodeError as error:
            self._result, end = _words(error), self._length
        return end - before

    def is_done(self) -> bool:
        """Whether the object is whole, or beyond hope."""
        return self._done

    def finish(self) -> Any:
        """The object, or a str that says what is wrong with it."""
        if not self._done:
            self.feed("")
        if not self._done or (self._check_trailer and isinstance(self._result, dict) and not self._whole()):
            return "unexpected end of input" if not self._done else "trailing garbage at end of input"
        return self._result

    def _ends_in(self, text: str) -> bool:
        """Whether the closing brace is in this piece, told by counting braces outside of strings."""
        bare, strings = _STRING.subn(r"\1", self._carry + text)
        cut = strings > bare.count('"')
        self._carry = ('"\\' if bare.endswith("\\") else '"') if cut else ""
        self._depth += bare.count("{") - bare.count("}")
        if self._depth <= 0:
            return bool(bare.strip())
        return _NEXT.search(bare) is not None  # two objects meet: inside of one, a comma would be between

    def _whole(self) -> bool:
        whole = "".join(self._parts)
        return not whole[_DECODER.raw_decode(whole, len(whole) - len(whole.lstrip()))[1] :].strip()


def _words(error: json.JSONDecodeError) -> str:
    return f"line {error.lineno}, column {error.colno}: {error.msg}"


def use() -> None:
    """Let `ovs` use it, unless `ovs` has its own C parser."""
    if ovs.json.PARSER == ovs.json.PARSER_PY:
        ovs.json.Parser = StreamParser
