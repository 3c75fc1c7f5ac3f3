"""The JSON Schema of a function's settings, made from the declarations that the server checks them by."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tinyfaas import settings
from tinyfaas.fields import fields_of, is_list, table_of, type_of

_TYPES: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def function_schema() -> str:
    """The schema of `function.toml`, and of the `config` in an upload, as a file."""
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "function.toml",
        "description": "The settings of a tinyfaas function: its function.toml, or the config of an upload.",
        **_table(*settings.PLAIN, tables=settings.TABLES),
    }
    return json.dumps(document, indent=2) + "\n"


def _table(*kinds: type[Any], tables: Mapping[str, type[Any]] | None = None) -> dict[str, Any]:
    properties = {
        name: _setting(type_of(kind, name), field) for kind in kinds for name, field in fields_of(kind).items()
    }
    properties |= {name: {"description": _line(kind.__doc__), **_table(kind)} for name, kind in (tables or {}).items()}
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    required = [name for kind in kinds for name, field in fields_of(kind).items() if field.metadata["required"]]
    if required:
        schema["required"] = required
    names, must = settings.ONE_OF.get(kinds[0], ((), False))
    if must:
        schema["oneOf"] = [{"required": [name]} for name in names]
    elif names:
        schema["allOf"] = [
            {"not": {"required": [one, other]}} for place, one in enumerate(names) for other in names[place + 1 :]
        ]
    return schema


def _setting(kind: Any, field: dataclasses.Field[Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"description": field.metadata["doc"]}
    of = table_of(kind)
    if of is not None:
        table = {"description": _line(of.__doc__), **_table(of)}
        return said | ({"type": "array", "items": table} if is_list(kind) else _table(of))
    meta, default = field.metadata, field.default
    if kind in (int, float) and meta["low"] is not None and default < meta["low"]:
        default = dataclasses.MISSING  # stands for: not set
    if default is not dataclasses.MISSING and not meta["required"]:
        said["default"] = list(default) if isinstance(default, tuple) else default
    if kind in _TYPES:
        return said | {"type": _TYPES[kind]} | _bounds(meta, required=meta["required"])
    if is_list(kind):
        return said | {"type": "array", "items": {"type": "string"} | _bounds(meta, required=True)}
    table = {"type": "object", "additionalProperties": {"type": "string"}}
    return said | table | ({"propertyNames": _bounds(meta, required=True)} if meta["pattern"] else {})


def _bounds(meta: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    bounds: dict[str, Any] = {}
    if meta["low"] is not None:
        bounds["minimum"] = meta["low"]
    if meta["high"] is not None:
        bounds["maximum"] = meta["high"]
    if meta["choices"]:
        bounds["enum"] = list(meta["choices"])
    if meta["pattern"]:
        bounds["pattern"] = f"^({meta['pattern']}{'' if required else '|'})$"
    return bounds


def _line(text: str | None) -> str:
    return " ".join((text or "").split())
