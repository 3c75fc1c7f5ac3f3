"""What `main` gets of the messages that trigger it: `main(event)`, or `main(events)` of a batch.

JSON is checked and put in as it came, not decoded and encoded again. Bytes travel behind the JSON, as they are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from tinyfaas.child import faaswire
from tinyfaas.errors import BadRequest
from tinyfaas.model import Request, Trigger
from tinyfaas.protocol import encode, iso_time, parse_json
from tinyfaas.topics import unshared, wildcards


def check(trigger: Trigger, request: Request, largest_bytes: int) -> None:
    """Refuse a message whose payload is not what the trigger says, or too much; raises `BadRequest`."""
    if len(request.payload) > largest_bytes:
        raise BadRequest(f"the payload has {len(request.payload)} bytes, {largest_bytes} are allowed")
    if trigger.payload == "json":
        parse_json(request.payload)
    elif trigger.payload == "text":
        try:
            request.payload.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRequest("the payload is not UTF-8") from None


def call(trigger: Trigger, requests: Sequence[Request]) -> bytes:
    """The call that checked messages make, as JSON with `args`. In the place of bytes there is their number."""
    events = [_event(trigger, request) for request in requests]
    argument = events[0] if trigger.batch is None else b"[" + b",".join(events) + b"]"
    return b'{"args":[' + argument + b"]}"


def body(trigger: Trigger, text: bytes, requests: Sequence[Request]) -> bytes:
    """What the worker gets of a `call`; empty where that is the call itself."""
    if trigger.payload != "bytes":
        return b""
    return b"".join((faaswire.BYTES_BEHIND.pack(0, len(text)), text, *(request.payload for request in requests)))


def _event(trigger: Trigger, request: Request) -> bytes:
    received_s = time.time() - (time.monotonic() - request.received_s)
    return b'{"topic":%s,"payload":%s,"retain":%s,"qos":%d,"received":"%s","wildcards":%s}' % (
        encode(request.topic),
        _payload(trigger, request.payload),
        b"true" if request.retain else b"false",
        request.qos,
        iso_time(received_s).encode(),
        encode(list(wildcards(unshared(trigger.topic), request.topic) or ())),
    )


def _payload(trigger: Trigger, payload: bytes) -> bytes:
    if trigger.payload == "bytes":
        return b"%d" % len(payload)
    if trigger.payload == "text":
        return encode(payload.decode("utf-8"))
    if b"\n" in payload or b"\r" in payload:  # the history has a line for each call
        return json.dumps(json.loads(payload), separators=(",", ":")).encode()
    return payload
