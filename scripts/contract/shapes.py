"""The JSON Schemas that the messages of the contract are made of. What the server's code knows is taken from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyfaas import errors
from tinyfaas.errors import LONGEST_MESSAGE
from tinyfaas.fields import fields_of
from tinyfaas.loops import MOST_LINKS, PROPERTY
from tinyfaas.model import FUNCTION_NAME, Limits, Retry, Surroundings
from tinyfaas.protocol import LONGEST_REQUEST_ID

Schema = dict[str, Any]

SETTINGS = "./function.schema.json"

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number", "minimum": 0}
ANYTHING: Schema = {}


def ref(name: str) -> Schema:
    """A schema that all messages share."""
    return {"$ref": f"#/components/schemas/{name}"}


def closed(properties: Mapping[str, Any], *, optional: Mapping[str, Any] | None = None, **more: Any) -> Schema:
    """An object with exactly these keys, of which those in `optional` may be missing."""
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def opened(properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> Schema:
    """An object that may have other keys too: the server ignores those it does not know."""
    return {"type": "object", "properties": dict(properties), **({"required": list(required)} if required else {})}


def texts(*choices: str) -> Schema:
    """One of these strings."""
    return {"const": choices[0]} if len(choices) == 1 else {"type": "string", "enum": list(choices)}


def listed(items: Schema) -> Schema:
    """An array of these."""
    return {"type": "array", "items": items}


def nullable(kind: str) -> Schema:
    """A value that may be unknown."""
    return {"type": [kind, "null"]}


def only_with(codes: tuple[str, ...], *keys: str, always: bool) -> Schema:
    """Keys that an error has with these codes alone, and with these `always` or not."""
    absent: Schema = {"properties": dict.fromkeys(keys, False)}
    return {
        "if": {"properties": {"code": texts(*codes)}, "required": ["code"]},
        **({"then": {"required": list(keys)}} if always else {}),
        "else": absent,
    }


def settings_in_force() -> Schema:
    """All settings of a function but for its triggers, schedules and outputs, also those it did not set."""
    shown = {name: {"$ref": f"{SETTINGS}#/properties/{name}"} for kind in (Limits, Surroundings) for name in _of(kind)}
    retry = {name: {"$ref": f"{SETTINGS}#/properties/retry/properties/{name}"} for name in _of(Retry)}
    return closed({**shown, "retry": closed(retry)})


def _of(kind: type[Any]) -> list[str]:
    return list(fields_of(kind))


def _said(kind: type[errors.Failure]) -> str:
    return " ".join((kind.__doc__ or "").split())


SHARED: dict[str, Schema] = {
    "FunctionName": {
        "description": "A function's name.",
        "type": "string",
        "pattern": f"^{FUNCTION_NAME.pattern}$",
        "examples": ["hello"],
    },
    "RequestId": {
        "description": "The client's label, echoed in every answer; without one the server makes one up.",
        "type": "string",
        "maxLength": LONGEST_REQUEST_ID,
        "examples": ["r-1"],
    },
    "InvocationId": {
        "description": "This invocation, and no other.",
        "type": "string",
        "pattern": "^[0-9a-f]{16}$",
        "examples": ["0e0c6a1b00000001"],
    },
    "NodeName": {"description": "The node that did it.", "type": "string", "minLength": 1, "examples": ["pi-01"]},
    "Version": {"description": "A function's version; they count up.", "type": "integer", "minimum": 1},
    "Time": {
        "description": "UTC, by the wall clock of the device.",
        "type": "string",
        "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        "examples": ["2026-11-23T17:00:00.123Z"],
    },
    "Error": {
        "description": "What went wrong, in one line. Programs should look at `code`; messages may change.",
        "type": "string",
        "minLength": 1,
        "maxLength": LONGEST_MESSAGE,
        "pattern": r"^[^\r\n]*$",
    },
    "Code": {
        "description": "\n".join(f"- `{kind.code}`: {_said(kind)}" for kind in errors.Failure.__subclasses__()),
        "type": "string",
        "enum": [kind.code for kind in errors.Failure.__subclasses__()],
    },
    "Chain": {
        "description": "The functions that led to a loop, each as `<node>/<function>`.",
        "type": "array",
        "items": TEXT,
        "maxItems": MOST_LINKS,
    },
    "Duration": {
        "description": "Milliseconds from the start of the work to its outcome.",
        "type": "number",
        "minimum": 0,
    },
    "Queued": {
        "description": "Milliseconds from the receipt of the request to the start of the work.",
        "type": "number",
        "minimum": 0,
    },
    "Cold": {"description": "Whether it succeeded in a worker that was started for it.", "type": "boolean"},
    "Attempts": {"description": "How often it was tried, where more than once.", "type": "integer", "minimum": 2},
    "UserProperties": {
        "description": "User Properties of MQTT 5.",
        "type": "object",
        "properties": {
            PROPERTY: {
                "description": "The functions that led to this message, each as `<node>/<function>`, commas between. "
                "Who passes messages on passes it on too, so that loops are seen.",
                "type": "string",
                "pattern": "^[^,/]+/[^,/]+(,[^,/]+/[^,/]+)*$",
            }
        },
    },
}
