"""What clients send. Other keys are ignored, so the schemas stay open."""

from __future__ import annotations

from scripts.contract.shapes import COUNT, SETTINGS, TEXT, Schema, opened, ref, texts
from tinyfaas.protocol import LONGEST_TAP_S

_ENVELOPE: Schema = {
    "request_id": ref("RequestId"),
    "node": {"description": "Only the node of this name acts; the others ignore the request.", "type": "string"},
    "deadline_ms": {
        "description": "Milliseconds from its receipt; what has not started by then is answered `expired`.",
        "type": "number",
        "minimum": 0,
    },
}
_BASE64: Schema = {"type": "string", "contentEncoding": "base64", "pattern": "^[A-Za-z0-9+/]*={0,2}$"}
_FUNCTION: Schema = {"function": ref("FunctionName")}


def _named(properties: Schema | None = None, required: tuple[str, ...] = ()) -> Schema:
    """A command about a function, which may be named here instead of in the topic."""
    return opened({**_ENVELOPE, **_FUNCTION, **(properties or {})}, required)


REQUESTS: dict[str, tuple[str, Schema]] = {
    "invoke": (
        "Calls `main(*args, **kwargs)`.",
        opened({**_ENVELOPE, "args": {"type": "array"}, "kwargs": {"type": "object"}}),
    ),
    "upload": (
        "Creates a function, or a new version of it.",
        _named(
            {
                "code_b64": {**_BASE64, "description": "func.py, which defines `main`."},
                "req_b64": {**_BASE64, "description": "requirements.txt; without it there are none."},
                "config": {"$ref": SETTINGS},
                "signed_at": {**TEXT, "description": "Where uploads must be signed: when that was, an ISO time."},
                "signature": {**TEXT, "description": "And the armoured SSH signature, namespace tinyfaas-upload."},
            },
            ("code_b64",),
        ),
    ),
    "delete": ("Removes a function and all it had.", _named()),
    "logs": (
        "Asks for a function's execution history.",
        _named(
            {
                "limit": {**COUNT, "minimum": 1, "maximum": 10_000, "default": 100},
                "status": texts("success", "error"),
                "since": {**TEXT, "description": "An ISO time; UTC unless it says otherwise."},
                "output_s": {
                    "description": "For so many seconds what the function prints shall be published too.",
                    "type": "number",
                    "minimum": 0,
                    "maximum": LONGEST_TAP_S,
                    "default": 0,
                },
            }
        ),
    ),
    "info": ("Asks for all about one function.", _named()),
    "rollback": ("Makes the version before the current one current.", _named()),
    "redrive": ("Runs a function's dead letters again.", _named()),
    "list": ("Asks which functions there are.", opened(_ENVELOPE)),
    "status": ("Asks how server and device are.", opened(_ENVELOPE)),
}
