"""Text -> nodes with positions -> plain values. Knows YAML, nothing of the intent.

Plain scalars are read as YAML 1.2's core schema reads them, because YAML 1.1's surprises are mistakes
in waiting here: a MAC address of digits is no base-60 number, `off` is a word, a date is text.
Limits: anchors may expand a file to no more than `MAX_VALUES` values, collections nest no deeper than
`MAX_DEPTH`, and tags other than YAML's own scalars and collections are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from netctl.errors import InputError, Problem

try:
    from yaml._yaml import CParser as _Parser
except ImportError:  # PyYAML built without libyaml: slower, the same result
    from yaml.composer import Composer
    from yaml.parser import Parser
    from yaml.reader import Reader
    from yaml.scanner import Scanner

    class _Parser(Reader, Scanner, Parser, Composer):  # type: ignore[no-redef]
        def __init__(self, stream: str) -> None:
            Reader.__init__(self, stream)
            Scanner.__init__(self)
            Parser.__init__(self)
            Composer.__init__(self)


MAX_BYTES = 64 * 2**20
MAX_DEPTH = 40
_TOO_DEEP = f"lists and mappings are nested more than {MAX_DEPTH} deep"
_FLATTER = "write it flatter: a lab needs no such depth"
MAX_VALUES = 5_000_000

Path_ = tuple[str | int, ...]
"""Where a value stands: keys and list indexes from the top."""

_PLAIN = "?"
_TEXT = "tag:yaml.org,2002:str"
_SCALAR_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("str", "int", "float", "bool", "null")}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,99})|0o[0-7]{1,99}|0x[0-9a-fA-F]{1,99}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_WORDS: dict[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}


class WrittenFloat(float):
    """A number with a point, and how it was written: 10.10 is no 10.1 when an address was meant."""

    def __init__(self, text: str) -> None:
        self.text = text


def _plain(text: str) -> Any:
    """The value of a plain scalar."""
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first.isdigit() or first in "+-.":
        if _INT.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text) and not (first == "0" and text.isdigit()):
            return WrittenFloat(text)
    return text


def is_text(text: str) -> bool:
    """Whether a text needs no quotes to be read as itself."""
    return isinstance(_plain(text), str)


class _Composer(_Parser):
    """Composes nodes without resolving what a plain scalar is, and no deeper than allowed."""

    _depth = 0

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        if kind is ScalarNode:
            return _PLAIN if implicit[0] else _TEXT
        return ""

    def descend_resolver(self, parent: Node | None, index: Any) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=_TOO_DEEP, problem_mark=parent.start_mark if parent else None, note=_FLATTER
            )

    def ascend_resolver(self) -> None:
        self._depth -= 1


@dataclass
class Document:
    """A file's content as plain values, with the place of each and what is wrong with the YAML itself."""

    file: str
    root: Node | None
    data: Any
    problems: list[Problem] = field(default_factory=list)
    entries: dict[int, dict[str, tuple[Node, Node]]] = field(default_factory=dict, repr=False)

    def place(self, *path: str | int, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at `path`, or of its key; of the nearest that exists."""
        node, mark = self.root, self.root.start_mark if self.root else None
        for number, step in enumerate(path, 1):
            if isinstance(node, MappingNode) and str(step) in self.entries.get(id(node), ()):
                key_node, node = self.entries[id(node)][str(step)]
                scalar = isinstance(node, ScalarNode) and node.value
                mark = (
                    node.start_mark if scalar and not (key and number == len(path)) else key_node.start_mark
                )
            elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                mark = node.start_mark
            else:
                break
        return (mark.line + 1, mark.column + 1) if mark else (1, 1)

    def problem(self, path: Path_, message: str, hint: str = "", key: bool = False) -> Problem:
        """A problem with the value at `path`, or with its key."""
        line, column = self.place(*path, key=key)
        return Problem(self.file, line, column, _one_line(message), _one_line(hint))


def _one_line(text: str) -> str:
    """A message on one line of a terminal, whatever it quotes."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= 400 else f"{text[:397]}..."


def read(path: Path) -> str:
    """The text of a file. Raises InputError when it is none."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file", "Give the path of a lab's YAML file.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a directory", "Give the path of a lab's YAML file in it.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read: {reason}", "Give the path of a lab's YAML file.") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} has more than {MAX_BYTES >> 20} MiB", "Give the path of a lab's YAML file.")
    return decode(content, str(path))


def decode(content: bytes, file: str) -> str:
    """The text of a file's content, which is UTF-8. Raises InputError when it is not."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        hint = "save the file in UTF-8"
        raise InputError.of(
            [Problem(file, line, column, f"the octet 0x{content[error.start]:02x} here is not UTF-8", hint)]
        ) from None


def compose(text: str, file: str) -> Document:
    """Plain values with their places. Raises InputError when the text is not YAML at all."""
    try:
        root = _Composer(text).get_single_node()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character[:1] or "\0")
        problem = Problem(file, *place, f"the character U+{code:04X} is not allowed here", "remove it")
        raise InputError.of([problem]) from None
    except yaml.MarkedYAMLError as error:
        raise InputError.of([_yaml_problem(error, file, text)]) from None
    except UnicodeEncodeError as error:
        before = text[: error.start]
        place = before.count("\n") + 1, error.start - (before.rfind("\n") + 1) + 1
        problem = Problem(file, *place, "half of a surrogate pair is no character", "remove it")
        raise InputError.of([problem]) from None
    document = Document(file, root, None)
    if root is None:
        document.problems.append(
            Problem(file, 1, 1, "the file is empty", "write at least a name: `name: my-lab`")
        )
        return document
    document.data = _Values(document).value(root)
    return document


def _yaml_problem(error: yaml.MarkedYAMLError, file: str, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    what = (error.problem or "this is not YAML").removeprefix("but ")
    hint = "look at this line and the one before it"
    current = text.split("\n")[line - 1 : line]
    if current and "\t" in current[0][: max(column, 1)]:
        hint = "YAML is indented with blanks: replace the tab"
    elif "maximum nesting depth" in what:  # libyaml's own limit, where it comes first
        what, hint = _TOO_DEEP, _FLATTER
    elif "another document" in what:
        what, hint = "a second document begins", "one file holds one lab: remove the `---`"
    elif "undefined alias" in what:
        what, hint = (
            "an alias (`*name`) has no anchor (`&name`) before it",
            "write the anchor first, or quote the `*`",
        )
    elif "mapping values are not allowed" in what:
        hint = "put text with a colon in quotes, or indent as the line above"
    elif "end of stream" in what or "expected ',' or" in what or "end, but found" in what:
        context = error.context_mark
        begins = f", begun on line {context.line + 1}" if context else ""
        hint = f"look for a missing bracket or quote{begins}"
    elif "could not find expected ':'" in what:
        hint = "write `key: value`"
    elif "cannot start any token" in what:
        hint = "put the text in quotes"
    elif "expected key" in what or "expected '-'" in what:
        hint = "look at the indentation: what belongs together begins in the same column"
    elif getattr(error, "note", None):
        hint = str(error.note)
    return Problem(file, line, column, f"not YAML: {what}", hint)


class _Values:
    """Converts nodes to plain values; a node that several aliases name is converted once."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.done: dict[int, tuple[Any, int, int]] = {}  # by id(node): value, values in it, its height

    def value(self, node: Node) -> Any:
        value, size, _height = self._convert(node)
        if size > MAX_VALUES:
            self._problem(
                node, f"the aliases of this file expand to {size} values", "write less with aliases"
            )
            return None
        return value

    def _problem(self, node: Node, message: str, hint: str) -> None:
        mark = node.start_mark
        self.document.problems.append(
            Problem(self.document.file, mark.line + 1, mark.column + 1, message, hint)
        )

    def _convert(self, node: Node) -> tuple[Any, int, int]:
        if type(node) is ScalarNode:
            return self._scalar(node), 1, 0
        known = self.done.get(id(node))
        if known is not None:
            if known[1] < 0:
                self._problem(node, "an alias here stands for what it is part of", "write it out")
                return None, 1, 0
            return known
        self.done[id(node)] = (None, -1, 0)
        result = self._mapping(node) if type(node) is MappingNode else self._sequence(node)
        if node.tag not in ("", "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            self._tag(node)
        if result[2] > MAX_DEPTH:
            self._problem(node, f"aliases nest more than {MAX_DEPTH} deep here", "write less with aliases")
            result = (None, 1, 0)
        self.done[id(node)] = result
        return result

    def _sequence(self, node: Node) -> tuple[Any, int, int]:
        size, height, values = 1, 0, []
        for item in node.value:
            value, inner, depth = self._convert(item)
            values.append(value)
            size += inner
            height = max(height, depth)
        return values, size, height + 1

    def _mapping(self, node: Node) -> tuple[Any, int, int]:
        entries: dict[str, tuple[Node, Node]] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            if type(key_node) is not ScalarNode:
                self._problem(key_node, "a list or a mapping cannot be a key", "write a word and a colon")
                continue
            key = key_node.value
            if key == "<<" and key_node.tag == _PLAIN:
                merged.append(value_node)
            elif key in entries:
                line = entries[key][0].start_mark.line + 1
                self._problem(
                    key_node, f"the key `{key}` is there twice, first on line {line}", "keep one of them"
                )
            else:
                entries[key] = (key_node, value_node)
        self.document.entries[id(node)] = entries
        result: dict[str, Any] = {}
        size, height = 1, 0
        for key, (_, value_node) in entries.items():
            if type(value_node) is ScalarNode:
                result[key] = self._scalar(value_node)
                size += 1
                continue
            value, inner, depth = self._convert(value_node)
            result[key] = value
            size += inner
            height = max(height, depth)
        for source in merged:
            for part in source.value if type(source) is SequenceNode else [source]:
                value, inner, depth = self._convert(part)
                if type(part) is not MappingNode or (value is None and inner == 1):
                    if type(part) is not MappingNode:
                        self._problem(
                            part, "`<<` merges mappings only", "name a mapping, such as `<<: *defaults`"
                        )
                    continue
                size += inner
                height = max(height, depth - 1)
                for key, item in value.items():
                    if key not in result:
                        result[key] = item
                        entries[key] = self.document.entries[id(part)][key]
        return result, size, height + 1

    def _scalar(self, node: Node) -> Any:
        text: str = node.value
        tag = node.tag
        if tag == _TEXT:
            return text
        if tag != _PLAIN:
            kind = _SCALAR_TAGS.get(tag)
            if kind is None and tag != "!":
                self._tag(node)
            if kind is None or kind == "str":
                return text
        return _plain(text)

    def _tag(self, node: Node) -> None:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self._problem(node, f"the tag {tag} is not used here", "remove it")
