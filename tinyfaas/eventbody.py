"""What `main` gets of the messages that trigger it: `main(event)`, or `main(events)` of a batch.

Bytes travel behind the JSON, as they are.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from tinyfaas.child import faaswire
from tinyfaas.errors import BadRequest
from tinyfaas.model import Request, Trigger
from tinyfaas.protocol import encode, iso_time, parse_json
from tinyfaas.topics import unshared, wildcards


def payload_text(trigger: Trigger, request: Request, largest_bytes: int) -> bytes:
    """A message's payload as JSON; of bytes, their number. Raises `BadRequest` where it is not what it should be."""
    payload = request.payload
    if len(payload) > largest_bytes:
        raise BadRequest(f"the payload has {len(payload)} bytes, {largest_bytes} are allowed")
    if trigger.payload == "bytes":
        return b"%d" % len(payload)
    if trigger.payload == "text":
        try:
            return encode(payload.decode("utf-8"))
        except UnicodeDecodeError:
            raise BadRequest("the payload is not UTF-8") from None
    try:
        return encode(parse_json(payload))
    except (ValueError, RecursionError):  # 1e999 is JSON, but no float
        raise BadRequest("the payload holds a number too large for a float, or is nested too deeply") from None


def call(trigger: Trigger, texts: Mapping[Request, bytes]) -> bytes:
    """The call that messages make, whose payloads are given as JSON: a text with `args`."""
    events = [_event(trigger, request, text) for request, text in texts.items()]
    argument = events[0] if trigger.batch is None else b"[" + b",".join(events) + b"]"
    return b'{"args":[' + argument + b"]}"


def body(trigger: Trigger, text: bytes, requests: Iterable[Request]) -> bytes:
    """What the worker gets of a `call`; empty where that is the call itself."""
    if trigger.payload != "bytes":
        return b""
    return b"".join((faaswire.BYTES_BEHIND.pack(0, len(text)), text, *(request.payload for request in requests)))


def _event(trigger: Trigger, request: Request, text: bytes) -> bytes:
    received_s = time.time() - (time.monotonic() - request.received_s)
    return b'{"topic":%s,"payload":%s,"retain":%s,"qos":%d,"received":"%s","wildcards":%s}' % (
        encode(request.topic),
        text,
        b"true" if request.retain else b"false",
        request.qos,
        iso_time(received_s).encode(),
        encode(list(wildcards(unshared(trigger.topic), request.topic) or ())),
    )
