"""The JSON schema of the intent file, for editors (draft 2020-12)."""

from __future__ import annotations

from typing import Any

from netctl.model.intent import LabFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema. It knows types, ranges and keys; references and clashes are for `netctl validate`."""
    raw = LabFile.model_json_schema(by_alias=True)
    definitions = {name: _tidy(definition) for name, definition in raw.pop("$defs").items()}
    for definition in definitions.values():
        if definition.get("type") == "object" and not {"required", "anyOf"} & definition.keys():
            definition["type"] = ["object", "null"]  # `hv1:` with nothing behind it
    return {
        "$schema": DIALECT,
        **_tidy(raw),
        "title": "netctl intent file",
        "$defs": dict(sorted(definitions.items())),
    }


def _tidy(value: Any) -> Any:
    """Without pydantic's titles and null defaults: a key that is left out needs no type of its own."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: _tidy(item) for key, item in value.items() if key != "properties"}
    if isinstance(result.get("title"), str):
        del result["title"]
    if "default" in result and result["default"] is None:
        del result["default"]
    result.pop("discriminator", None)
    if "patternProperties" in result:
        result["additionalProperties"] = False  # names that are none
    branches = result.get("anyOf", [])
    rest = [branch for branch in branches if branch != {"type": "null"}]
    if len(rest) < len(branches):
        del result["anyOf"]
        result = {**(rest[0] if len(rest) == 1 else {"anyOf": rest}), **result}
    if "properties" in value:
        result["properties"] = {key: _tidy(item) for key, item in value["properties"].items()}
    return result
