"""Topics and payloads: parse, validate, encode. Pure; the mirror of docs/protocol.md."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any, NoReturn

from tinyfaas.errors import BadRequest, Expired, Failure, Forbidden
from tinyfaas.model import FUNCTION_NAME, Request

LONGEST_REQUEST_ID = 256
LONGEST_TAP_S = 600
NAMED_COMMANDS = ("upload", "delete", "logs", "info", "rollback", "redrive")
COMMANDS = (*NAMED_COMMANDS, "list", "status")
SIGNATURE_NAMESPACE = "tinyfaas-upload"
LONGEST_SIGNATURE = 65_536
_SIGNATURE_HEAD = "-----BEGIN SSH SIGNATURE-----"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_from_json = json.JSONDecoder(parse_constant=_no_constant).decode


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"{type(value).__name__} is not JSON")


# json's own encoder, made once and not for each call. Circles end in a `RecursionError`: nothing here has any.
_in_pieces = c_make_encoder(None, _refuse, encode_basestring, None, ":", ",", False, False, False)
_to_canonical = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")  # Python's own check lets superfluous padding pass
_REQUEST_ID = re.compile(rb'"request_id"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.){0,256}")')


class Topics:
    """The topic names of one server: `base` and everything answered below `response`."""

    def __init__(self, base: str, response: str = "") -> None:
        self.base = base
        self.response = response or f"{base}/response"
        self.invoke_prefix = f"{base}/invoke/"
        self.admin_prefix = f"{base}/admin/"
        self.requests = (f"{base}/invoke/+/#", f"{base}/admin/+/#")
        self.error = f"{self.response}/error"
        self._invoke_answer_prefix = f"{self.response}/invoke/"

    def share(self, group: str, function: str) -> str:
        """What a node of a group subscribes to: of a function's invocations the broker gives each to one node."""
        return f"$share/{group}/{self.invoke_prefix}{function}"

    def invoke_answer(self, function: str) -> str:
        """Where the answer to an invocation goes."""
        return self._invoke_answer_prefix + function

    def admin_answer(self, command: str, function: str) -> str:
        """Where the answer to an administrative command goes; `function` is empty for `list` and `status`."""
        return f"{self.response}/admin/{command}/{function}" if function else f"{self.response}/admin/{command}"

    def event(self, kind: str, function: str) -> str:
        """Where progress of long work is told (`upload`), and what a function prints (`output`)."""
        return f"{self.base}/event/{kind}/{function}"

    def deadletter(self, function: str) -> str:
        """Where invocations go that were given up after retries."""
        return f"{self.base}/deadletter/{function}"

    def node(self, node: str) -> str:
        """Where a node's presence stands, retained."""
        return f"{self.base}/node/{node}"


def parse_object(payload: bytes) -> dict[str, Any]:
    """A request's payload as an object; empty is `{}`. Raises `BadRequest` for anything else."""
    if not payload:
        return {}
    parsed = parse_json(payload)
    if not isinstance(parsed, dict):
        raise BadRequest(f"the payload must be a JSON object, not {_json_name(parsed)}")
    return parsed


def parse_json(payload: bytes) -> Any:
    """What a payload says in JSON; raises `BadRequest` where it is none."""
    try:
        return _from_json(payload.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadRequest("the payload is not UTF-8") from None
    except RecursionError:
        raise BadRequest("the payload is nested too deeply") from None
    except ValueError as error:
        raise BadRequest(f"the payload is not JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Envelope:
    """The keys every request may have. `deadline_ms` counts from the receipt of the request."""

    request_id: str
    node: str
    deadline_ms: float | None


def parse_envelope(body: Mapping[str, Any]) -> Envelope:
    """Validate the common keys; `request_id` is empty where the client gave none."""
    request_id = body.get("request_id", "")
    if not isinstance(request_id, str) or len(request_id) > LONGEST_REQUEST_ID:
        raise BadRequest(f'"request_id" must be a string of at most {LONGEST_REQUEST_ID} characters')
    node = body.get("node", "")
    if not isinstance(node, str):
        raise BadRequest('"node" must be a string')
    deadline = body.get("deadline_ms")
    if deadline is not None and (isinstance(deadline, bool) or not isinstance(deadline, int | float) or deadline < 0):
        raise BadRequest('"deadline_ms" must be a number of milliseconds, 0 or more')
    return Envelope(request_id, node, deadline)


def check_arguments(body: Mapping[str, Any]) -> None:
    """Refuse an invocation whose `args` or `kwargs` have the wrong type."""
    if not isinstance(body.get("args", []), list):
        raise BadRequest(f'"args" must be an array, not {_json_name(body["args"])}')
    if not isinstance(body.get("kwargs", {}), dict):
        raise BadRequest(f'"kwargs" must be an object, not {_json_name(body["kwargs"])}')


def take_back_response_topic(request: Request, allowed: tuple[str, ...]) -> Forbidden | None:
    """Clear a Response Topic with a wildcard or outside of what is allowed, so that nothing is ever published there.

    Returns the refusal that the request then gets on its usual topic. Done before anything else can fail.
    """
    topic = request.response_topic
    if not topic or ("+" not in topic and "#" not in topic and topic.startswith(allowed)):
        return None
    request.response_topic = ""
    return Forbidden(f"the response topic must lie under {' or '.join(allowed)} and have no wildcard")


def check_time(request: Request, deadline_ms: float | None, now_s: float) -> None:
    """Refuse a request whose message expiry or deadline has passed at the monotonic `now_s`. Raises `Expired`."""
    if request.expires_s is not None and now_s >= request.expires_s:
        raise Expired("its message expiry passed before it could start")
    if deadline_ms is not None and (now_s - request.received_s) * 1000 >= deadline_ms:
        raise Expired(f"its deadline of {deadline_ms:g} ms passed before it could start")


def glimpse_request_id(payload: bytes) -> str:
    """The request id of a payload that is too large or too many to be parsed, if it stands near either end."""
    for part in (payload[:4096], payload[-4096:]):
        if found := _REQUEST_ID.search(part):
            try:
                return str(json.loads(found[1]))
            except ValueError:
                return ""
    return ""


def check_function(name: object) -> str:
    """A function's name, or `BadRequest`."""
    if not isinstance(name, str) or FUNCTION_NAME.fullmatch(name) is None:
        shown = repr(name)
        shown = shown if len(shown) <= 80 else shown[:79] + "…"
        raise BadRequest(f"{shown} is not a function name: 1 to 63 of A-Z a-z 0-9 _ -, the first a letter or digit")
    return name


@dataclass(frozen=True, slots=True)
class AdminRoute:
    """Which command an admin topic names, and the function in it (empty where there is none)."""

    command: str
    function: str


def parse_admin_topic(rest: str) -> AdminRoute:
    """Read what stands after `faas/admin/`; raises `BadRequest` for an unknown command or a topic too deep."""
    command, below, function = rest.partition("/")
    if command not in COMMANDS:
        raise BadRequest(f"unknown command {command[:80]!r}; there are: {', '.join(COMMANDS)}")
    if below and command not in NAMED_COMMANDS:
        raise BadRequest(f"{command} takes no function in its topic")
    if "/" in function:
        raise BadRequest("the topic is one level too deep: a function's name is one level")
    return AdminRoute(command, function)


def function_of(route: AdminRoute, body: Mapping[str, Any]) -> str:
    """The function a command is about, from topic or payload; refused where both are given and differ."""
    if route.command not in NAMED_COMMANDS:
        return ""
    given = body.get("function")
    if given is not None and route.function and given != route.function:
        raise BadRequest(f"the topic names function {route.function[:80]!r}, the payload {str(given)[:80]!r}")
    if given is None and not route.function:
        raise BadRequest('no function given, neither in the topic nor as "function"')
    return check_function(route.function or given)


@dataclass(frozen=True, slots=True)
class Signed:
    """An upload's armoured SSH signature, the canonical text that it must fit, and when it says it was made.

    `at` has one form (`utc_time`), so that later ones compare as greater.
    """

    signature: bytes
    text: bytes
    at: str


@dataclass(frozen=True, slots=True)
class Upload:
    """The content of an upload, decoded but not yet tried; `signed` only where a signature is demanded."""

    code: bytes
    requirements: bytes
    config: Mapping[str, Any]
    signed: Signed | None = None


def parse_upload(body: Mapping[str, Any]) -> Upload:
    """Decode an upload; raises `BadRequest` for missing code, bad base64 or a `config` that is no object."""
    if "code_b64" not in body:
        raise BadRequest('"code_b64" is required: func.py in base64')
    config = body.get("config", {})
    if not isinstance(config, dict):
        raise BadRequest(f'"config" must be an object, not {_json_name(config)}')
    requirements = _decode(body, "req_b64")
    if b"\0" in requirements:
        raise BadRequest('"req_b64" is no text')
    return Upload(_decode(body, "code_b64"), requirements, config)


def canonical_upload(function: str, body: Mapping[str, Any]) -> bytes:
    """What an upload's signature is over: canonical JSON of what decides what will run, where, and how old it is.

    Keys sorted, no blanks, UTF-8; absent `req_b64`, `config` and `node` are as if empty. Raises `BadRequest`.
    """
    signed = {
        "function": function,
        "code_b64": body["code_b64"],
        "req_b64": body.get("req_b64", ""),
        "config": body.get("config", {}),
        "node": body.get("node", ""),
        "signed_at": body["signed_at"],
    }
    try:
        return _to_canonical(signed).encode("utf-8")
    except (ValueError, RecursionError):
        raise BadRequest('"config" holds what can\'t be signed: half a character, or a number too large') from None


def parse_signed(function: str, body: Mapping[str, Any]) -> Signed:
    """The signature of an upload that `parse_upload` accepts, not checked yet; `Forbidden` where there is none."""
    signature, signed_at = body.get("signature", ""), body.get("signed_at", "")
    for key, value in (("signature", signature), ("signed_at", signed_at)):
        if not isinstance(value, str):
            raise BadRequest(f'"{key}" must be a string, not {_json_name(value)}')
        if not value:
            raise Forbidden(f'uploads must be signed here, and "{key}" is missing')
    try:
        at = utc_time(signed_at)
    except ValueError:
        raise BadRequest('"signed_at" must be an ISO time such as "2026-01-31T12:00:00Z"') from None
    if not signature.startswith(_SIGNATURE_HEAD) or not signature.isascii() or len(signature) > LONGEST_SIGNATURE:
        raise Forbidden('"signature" is no armoured SSH signature, as ssh-keygen -Y sign makes them')
    return Signed(signature.encode("ascii"), canonical_upload(function, body), at)


def utc_time(text: str) -> str:
    """An ISO time in UTC with microseconds, always of one form, so that texts compare as times; or `ValueError`."""
    moment = datetime.fromisoformat(text)
    try:
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError(f"{text} is beyond all calendars") from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def upload_digest(code: bytes, requirements: bytes, config: Mapping[str, Any]) -> str:
    """What `info` tells of a version's upload: the same for the same files and settings."""
    return hashlib.sha256(b"\0".join((code, requirements, encode(config)))).hexdigest()


@dataclass(frozen=True, slots=True)
class LogsQuery:
    """Which records of a function's history are asked for; `since` is an ISO time, empty for all.

    For `output_s` seconds more what the function prints is to be shown.
    """

    limit: int
    status: str
    since: str
    output_s: float = 0.0


def parse_logs(body: Mapping[str, Any]) -> LogsQuery:
    """Validate the keys of `logs`."""
    limit, status, since = body.get("limit", 100), body.get("status", ""), body.get("since", "")
    output_s = body.get("output_s", 0)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 10_000:
        raise BadRequest('"limit" must be an integer from 1 to 10000')
    if status not in ("", "success", "error"):
        raise BadRequest('"status" must be "success" or "error"')
    if isinstance(output_s, bool) or not isinstance(output_s, int | float) or not 0 <= output_s <= LONGEST_TAP_S:
        raise BadRequest(f'"output_s" must be a number from 0 to {LONGEST_TAP_S}')
    return LogsQuery(limit, status, _utc(since) if since != "" else "", output_s)


def encode(value: object) -> bytes:
    """Compact JSON in UTF-8; lone surrogates, which UTF-8 can't hold, stay escaped."""
    try:
        return "".join(_in_pieces(value, 0)).encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def decode_result(text: bytes) -> bytes:
    """Check what a worker calls its result; returns it as one line of JSON, or raises `ValueError`."""
    value = _from_json(text.decode("utf-8"))
    return encode(value) if b"\n" in text or b"\r" in text else text


def error_keys(failure: Failure) -> dict[str, Any]:
    """The keys that make an answer an error."""
    return {"status": "error", "error": failure.message, "code": failure.code, **failure.details}


def iso_time(epoch_s: float) -> str:
    """A wall-clock time as the wire shows it: UTC with milliseconds."""
    whole = int(epoch_s)
    return f"{_iso_second(whole)}.{int((epoch_s - whole) * 1000):03d}Z"


_last_second: tuple[int, str] = (-1, "")


def _iso_second(whole: int) -> str:
    global _last_second  # noqa: PLW0603  (one cached second serves thousands of answers; torn reads can't happen)
    second, text = _last_second
    if second != whole:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        _last_second = (whole, text)
    return text


def _utc(since: object) -> str:
    from_iso = _parse_iso(since)
    if from_iso is None:
        raise BadRequest('"since" must be an ISO time such as "2026-01-31T12:00:00Z"')
    return iso_time(from_iso)


def _parse_iso(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _decode(body: Mapping[str, Any], key: str) -> bytes:
    text = body.get(key, "")
    if not isinstance(text, str):
        raise BadRequest(f'"{key}" must be a string in base64')
    try:
        if _BASE64.fullmatch(text) is None:
            raise BadRequest(f'"{key}" is not base64: only A-Z a-z 0-9 + / and up to two = at the end')
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BadRequest(f'"{key}" is not base64: {error}') from None


def _json_name(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
