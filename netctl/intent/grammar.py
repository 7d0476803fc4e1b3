"""Plain values -> model: types, ranges, names and unknown keys, every mistake with what to write instead.

The model is pydantic's to build; the words are ours. What is wrong is cut out of a copy of the values and
the rest is built again, so that the later stages can look at all that is right.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from netctl.errors import Problem
from netctl.intent.source import Document, Path_
from netctl.model.base import NAME_PATTERN, Says, as_name, attributes, show
from netctl.model.intent import LabFile

_ROUNDS = 20

MISPLACED = {
    ("InboundRule", "to"): "an inbound rule says `from` whom; what goes `to` whom is an outbound rule",
    ("OutboundRule", "from"): "an outbound rule says `to` whom; what comes `from` whom is an inbound rule",
}
"""Unknown keys that need more of an answer than the nearest known one, by model."""


def build(document: Document) -> tuple[LabFile, Cuts]:
    """The model of all that is right, and what is not."""
    if document.data is not None and not isinstance(document.data, dict):
        hint = "write keys with values, from `name: my-lab` on"
        message = f"a lab is a mapping, this is {_kind(document.data)}"
        return _nothing(), Cuts([document.problem((), message, hint)], {()})
    cuts = Cuts()
    data: dict[str, Any] = dict(document.data or {})
    copied = {id(data)}
    for number in range(_ROUNDS):
        try:
            return LabFile.model_validate(data, by_alias=True, by_name=False), cuts
        except ValidationError as error:
            mistakes = error.errors(include_url=False)
        if number == 0:
            meant = _meant(mistakes, document.data)
            cuts.broken |= meant
            cuts.problems = [
                _explain(mistake, document)
                for mistake in mistakes
                if mistake["type"] != "missing" or _resolve(mistake["loc"], data)[0] not in meant
            ]
        # The last first: so what goes leaves the numbers of what is still to go as they are.
        culprits = {_culprit(mistake, data) for mistake in mistakes}
        for path in sorted(
            culprits, key=lambda path: [(isinstance(step, int), step) for step in path], reverse=True
        ):
            cuts.note(path)
            _cut(data, path, copied)
    return _nothing(), Cuts(cuts.problems, {()})


@dataclass
class Cuts:
    """What the grammar refused and cut out of the model, by its path in the file.

    `dropped` are the numbers of the items that went from each list: the items behind them moved up in the
    model, and `in_file` tells where they stand in the file.
    """

    problems: list[Problem] = field(default_factory=list)
    broken: set[Path_] = field(default_factory=set)
    dropped: dict[Path_, set[int]] = field(default_factory=dict)

    def in_file(self, path: Path_) -> Path_:
        """Where what stands at `path` in the model stands in the file."""
        if not self.dropped:
            return path
        result: Path_ = ()
        for step in path:
            gone = self.dropped.get(result, ()) if isinstance(step, int) else ()
            if gone and isinstance(step, int):
                for number in sorted(gone):
                    step += number <= step
            result = (*result, step)
        return result

    def note(self, path: Path_) -> None:
        """Take down that what stands at `path` in the model is about to go."""
        there = self.in_file(path)
        self.broken.add(there)
        if there and isinstance(there[-1], int) and not _keeps_place(path):
            self.dropped.setdefault(there[:-1], set()).add(there[-1])


def _meant(mistakes: list[ErrorDetails], data: Any) -> set[Path_]:
    """What is probably there under a misspelt key: not to be missed as well."""
    result = set()
    for mistake in mistakes:
        if mistake["type"] == "extra_forbidden":
            path, _ = _resolve(mistake["loc"], data)
            owner = _model_at(path[:-1])
            close = get_close_matches(str(path[-1])[:64].lower(), _keys(owner), 1, 0.6) if owner else []
            result |= {(*path[:-1], key) for key in close}
    return result


def _keeps_place(path: Path_) -> bool:
    """A check is asked for by its number: a broken one becomes an empty one."""
    return len(path) == 2 and path[0] == "checks"


def _nothing() -> LabFile:
    return LabFile(name="unnamed")


def _culprit(mistake: ErrorDetails, data: Any) -> Path_:
    """What has to go for the rest to be built: the value itself, or what cannot be without it."""
    path, found = _resolve(mistake["loc"], data)
    return path if found or len(path) < 2 else path[:-1]


def _cut(data: dict[str, Any], path: Path_, copied: set[int]) -> None:
    owner: Any = data
    for step in path[:-1]:
        if not _has(owner, step):
            return
        inner = owner[step]
        if id(inner) not in copied and isinstance(inner, dict | list):
            inner = inner.copy()
            copied.add(id(inner))
            owner[step] = inner
        owner = inner
    if path in (("name",), ()):
        data["name"] = "unnamed"
    elif _keeps_place(path):
        owner[path[-1]] = {}
    elif _has(owner, path[-1]):
        del owner[path[-1]]


def _has(value: Any, step: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


def _resolve(location: tuple[str | int, ...], data: Any) -> tuple[Path_, bool]:
    """Pydantic's location as a path into the values, and whether there is a value."""
    path: list[str | int] = []
    value: Any = data
    found = True
    for step in location:
        if _has(value, step):
            value = value[step]
        elif isinstance(step, str) and (step == "[key]" or step.startswith("<")):
            continue  # a mapping's key, or the tag of a union's branch
        else:
            value, found = None, False
        path.append(step)
    return tuple(path), found


# --- words ---------------------------------------------------------------------------------------


def path_text(path: Path_) -> str:
    """A path as users read it: vms.web1.nics[0].ip."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{show(step)}" if text else show(step)
    return text


def nearest(word: str, known: list[str]) -> str:
    """`did you mean ...?`, or nothing."""
    close = get_close_matches(word[:64].lower(), known, 1, 0.6)
    if not close or re.sub("[0-9]+", "", close[0]) == re.sub("[0-9]+", "", word.lower()):
        return ""  # hv9 may be any of hv1, hv2, ...: better to list them
    return f"did you mean `{close[0]}`?"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return f"the truth value {show(value)}"
    if isinstance(value, int | float):
        return f"the number {show(value)}"
    if isinstance(value, str):
        return f"the text {show(value)!r}"
    return show(value)


def _explain(mistake: ErrorDetails, document: Document) -> Problem:
    path, _ = _resolve(mistake["loc"], document.data)
    is_key = mistake["loc"][-1:] == ("[key]",)
    context: dict[str, Any] = mistake.get("ctx", {})
    path += tuple(context.get("at", ()))
    where = path_text(path)
    kind, value = mistake["type"], mistake["input"]
    if kind == "extra_forbidden":
        owner = _model_at(path[:-1])
        inside = f" in {path_text(path[:-1])}" if len(path) > 1 else ""
        return document.problem(
            path, f"unknown key `{show(path[-1])}`{inside}", _known_keys(str(path[-1]), owner), key=True
        )
    if kind == "missing":
        owner = _model_at(path[:-1])
        info = _field(owner, str(path[-1]))
        about = f": {info.description}" if info and info.description else ""
        inside = path_text(path[:-1]) or "the lab"
        return document.problem(
            path[:-1], f"{inside} lacks `{path[-1]}`", f"write `{path[-1]}: ...`{about}", key=True
        )
    if kind == "mistake":
        what, hint = context["what"], context["hint"]
    else:
        what, hint = _refused(kind, value, context, path, is_key)
    return document.problem(path, f"{where}: {what}", hint, key=is_key)


def _refused(kind: str, value: Any, context: dict[str, Any], path: Path_, is_key: bool) -> tuple[str, str]:
    annotation, metadata = _annotation_at(path)
    belongs = f"write {_says(annotation, metadata)}"
    shown = show(value)
    if kind == "string_pattern_mismatch":
        return _bad_name(shown, context.get("pattern", ""))
    if kind == "string_type":
        if isinstance(value, bool | int | float):
            return f"text belongs here, this is {_kind(value)}", f'put it in quotes: "{shown}"'
        return f"a word belongs here, this is {_kind(value)}", belongs
    if kind in ("int_type", "int_from_float", "float_type", "float_parsing"):
        if isinstance(value, str) and re.fullmatch(r"[-+]?0*[0-9]{1,9}", value, re.ASCII):
            plain = int(value)
            why = (
                "a leading zero could mean octal" if value.lstrip("+-").startswith("0") else "without quotes"
            )
            return f"a number belongs here, this is {_kind(value)}", f"write {plain} ({why})"
        number = "a number" if kind.startswith("float") else "a whole number"
        return f"{number} belongs here, this is {_kind(value)}", belongs
    if kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        low, high = _bounds(annotation, metadata)
        limit = next(iter(context.values()))
        limit = int(limit) if limit == int(limit) else limit
        which, other = ("less", "more") if kind.startswith("greater") else ("more", "less")
        than = f"from {low} to {high}" if low is not None and high is not None else f"{limit} or {other}"
        return f"{shown} is {which} than {limit}", f"write {than}"
    if kind == "literal_error":
        words = [word.strip(" '") for word in re.split(r", | or ", context["expected"])]
        close = nearest(value, words) if isinstance(value, str) else ""
        more = "".join(
            f", or {_says(part, ())}" for part in _parts(annotation) if get_origin(part) in (list, dict)
        )
        return f"{shown} is none of {', '.join(words)}{more}", close or f"write {_or(words)}{more}"
    if kind in ("list_type", "tuple_type"):
        hint = f"write [{shown}]" if isinstance(value, str | int | float) else "put it in a list: [{...}]"
        return f"a list belongs here, this is {_kind(value)}", hint
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            hint = f"write {{{', '.join(f'{show(item)}: {{}}' for item in value[:3])}}}"
            hint = f"{hint[:-1]}, ...}}" if len(value) > 3 else hint
        else:
            hint = "write keys with values: {key: value}, or one `key: value` a line, indented"
        return f"a mapping belongs here, this is {_kind(value)}", hint
    if kind in ("too_short", "too_long"):
        low, high = _bounds(annotation, metadata, "min_length", "max_length")
        range_ = (
            f"{low}" if low == high else f"{low or 0} to {high}" if high is not None else f"{low} or more"
        )
        count = context.get("actual_length")
        return (
            f"this list has {count} item{'' if count == 1 else 's'}, not {range_}",
            f"write {range_} of them",
        )
    message = str(context.get("error") or kind.replace("_", " "))
    return f"{shown} is not right here ({message})", belongs


def _bad_name(shown: str, pattern: str) -> tuple[str, str]:
    if pattern == NAME_PATTERN:
        better = as_name(shown)
        such = f", such as {better}" if better else ""
        return (
            f"`{shown}` is not a name",
            f"a name is a lower-case letter, then letters, digits and dashes, 32 at most{such}",
        )
    what, such = (
        ("an uplink", "eth0, eth1, ...")
        if pattern.startswith("^eth")
        else ("a virtual switch", "vs0, vs1, ...")
    )
    return f"`{shown}` is not {what}", f"write {such}"


def _or(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _known_keys(key: str, owner: type[BaseModel] | None) -> str:
    if owner is None:
        return "remove it"
    special = MISPLACED.get((owner.__name__, key))
    if special:
        return special
    known = _keys(owner)
    close = nearest(key, known)
    if close:
        return close
    for inside in known:
        inner = _model_of(owner.model_fields[_attribute(owner, inside)].annotation, through=True)
        if inner and key in _keys(inner):
            return f"`{key}` belongs inside `{inside}`"
    return f"the keys here are {', '.join(known)}" if known else "there are no keys here yet: write {}"


# --- the model, as a map of keys -----------------------------------------------------------------


def _keys(model: type[BaseModel]) -> list[str]:
    return list(attributes(model))


def _attribute(model: type[BaseModel], key: str) -> str:
    return attributes(model)[key]


def _field(model: type[BaseModel] | None, key: str) -> FieldInfo | None:
    return model.model_fields.get(attributes(model).get(key, "")) if model else None


def _parts(annotation: Any) -> Iterator[Any]:
    """The members of a union, through Annotated."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _model_of(annotation: Any, through: bool = False) -> type[BaseModel] | None:
    """The model that a type holds; `through`: also inside of its lists and mappings."""
    for part in _parts(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
        if through and get_origin(part) in (list, dict):
            return _model_of(get_args(part)[-1], through)
    return None


def _annotation_at(path: Path_) -> tuple[Any, list[Any]]:
    """The type of what stands at a path, with its metadata; (None, []) when there is no such place."""
    annotation: Any = LabFile
    metadata: list[Any] = []
    for step in path:
        model = _model_of(annotation)
        if model is not None and isinstance(step, str):
            info = _field(model, step)
            if info is None:
                return None, []
            annotation, metadata = info.annotation, list(info.metadata)
            continue
        wanted = list if isinstance(step, int) else dict
        for part in _parts(annotation):
            if get_origin(part) is wanted:
                annotation, metadata = get_args(part)[-1], []
                break
        else:
            return None, []
    return annotation, metadata


def _model_at(path: Path_) -> type[BaseModel] | None:
    annotation, _ = _annotation_at(path)
    return _model_of(annotation) if annotation is not None else None


def _metadata(annotation: Any, metadata: list[Any] | tuple[Any, ...]) -> Iterator[Any]:
    """What a type says of itself, outermost first, not looking into lists and mappings."""
    for item in metadata:
        yield from item.metadata if isinstance(item, FieldInfo) else [item]
    if get_origin(annotation) is Annotated:
        yield from _metadata(get_args(annotation)[0], get_args(annotation)[1:])
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _metadata(part, ())


def _says(annotation: Any, metadata: list[Any] | tuple[Any, ...]) -> str:
    """What users call values of a type."""
    for item in _metadata(annotation, metadata):
        if isinstance(item, Says):
            return item.text
    for part in _parts(annotation):
        if get_origin(part) is list:
            return "a list of " + _says(get_args(part)[0], ()).removeprefix("a ").removeprefix("an ") + "s"
        if get_origin(part) is dict or (isinstance(part, type) and issubclass(part, BaseModel)):
            return "a mapping: {key: value}"
        if part in (int, float):
            return "a number"
    return "a word"


def _bounds(
    annotation: Any, metadata: list[Any] | tuple[Any, ...], least: str = "ge", most: str = "le"
) -> tuple[Any, Any]:
    low = high = None
    for item in _metadata(annotation, metadata):
        low = getattr(item, least, None) if low is None else low
        high = getattr(item, most, None) if high is None else high
    return low, high
