"""Whatever comes is parsed, or refused with `BadRequest`; nothing else."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfaas.errors import BadRequest, Forbidden
from tinyfaas.protocol import (
    canonical_upload,
    check_arguments,
    check_function,
    encode,
    function_of,
    glimpse_request_id,
    iso_time,
    parse_admin_topic,
    parse_envelope,
    parse_logs,
    parse_object,
    parse_signed,
    parse_upload,
    utc_time,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(["args", "kwargs", "request_id", "node", "deadline_ms", "code_b64", "req_b64", "config", "limit",
                        "signed_at", "signature",
                        "status", "since", "function"])  # fmt: skip
bodies = st.dictionaries(keys | st.text(), json_values, max_size=6)


@given(st.binary())
def test_any_bytes_are_an_object_or_a_bad_request(payload: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert isinstance(parse_object(payload), dict)


@given(bodies)
def test_any_object_is_understood_or_a_bad_request(body: dict[str, object]) -> None:
    for understand in (parse_envelope, parse_upload, parse_logs, check_arguments):
        with contextlib.suppress(BadRequest):
            understand(body)


@given(st.text(), bodies)
def test_any_admin_topic_names_a_valid_function_or_is_a_bad_request(rest: str, body: dict[str, object]) -> None:
    with contextlib.suppress(BadRequest):
        name = function_of(parse_admin_topic(rest), body)
        assert name == "" or check_function(name) == name


@given(json_values)
def test_what_is_encoded_is_one_line_and_decodes_to_the_same(value: object) -> None:
    text = encode(value)
    assert b"\n" not in text
    assert json.loads(text) == value


@given(st.text(max_size=200), bodies)
def test_a_request_id_near_either_end_is_glimpsed(label: str, body: dict[str, object]) -> None:
    inner = {key: value for key, value in body.items() if '"request_id"' not in json.dumps(value)}
    inner.pop("request_id", None)
    found = glimpse_request_id(json.dumps({"request_id": label, **inner}).encode())
    assert found in (label, "")
    if json.dumps(label) == f'"{label}"':
        assert found == label


@given(st.binary(), st.binary())
def test_an_upload_comes_out_as_it_went_in(code: bytes, requirements: bytes) -> None:
    body = {"code_b64": base64.b64encode(code).decode(), "req_b64": base64.b64encode(requirements).decode()}
    if b"\0" in requirements:
        with pytest.raises(BadRequest):
            parse_upload(body)
    else:
        assert (parse_upload(body).code, parse_upload(body).requirements) == (code, requirements)


def test_nesting_a_thousandfold_is_refused_not_suffered() -> None:
    with pytest.raises(BadRequest, match="nested"):
        parse_object(b'{"args":' + b"[" * 100_000)


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_python_takes_for_json_and_nobody_else_does_is_refused(constant: bytes) -> None:
    with pytest.raises(BadRequest, match="not JSON"):
        parse_object(b'{"args":[%s]}' % constant)


def test_times_are_utc_with_milliseconds() -> None:
    assert iso_time(1_000_000_000.1239) == "2001-09-09T01:46:40.123Z"


HEAD = "-----BEGIN SSH SIGNATURE-----"
uploads = st.fixed_dictionaries(
    {"code_b64": st.just("eA=="), "signature": st.just(HEAD) | json_values},
    optional={
        "config": st.dictionaries(st.text(), json_values, max_size=4),
        "signed_at": st.datetimes().map(str) | json_values,
    },
)


@given(uploads)
def test_any_upload_has_a_signature_to_be_checked_or_is_refused(body: dict[str, object]) -> None:
    with contextlib.suppress(BadRequest, Forbidden):
        signed = parse_signed("f", body)
        absent = {"config": {}, "function": "f", "node": "", "req_b64": ""}
        assert {**json.loads(signed.text), "signature": HEAD} == {**absent, **body, "signature": HEAD}


def test_what_is_signed_has_one_form_whatever_the_order_in_which_it_was_sent() -> None:
    sent = {"config": {"b": 0.5, "a": ["ä", {"d": "\n", "c": True}]}, "signed_at": "now", "code_b64": "eA=="}
    text = (
        '{"code_b64":"eA==","config":{"a":["ä",{"c":true,"d":"\\n"}],"b":0.5},'
        '"function":"f","node":"","req_b64":"","signed_at":"now"}'
    )
    assert canonical_upload("f", sent) == text.encode()
    empty = {"req_b64": "", "node": "", "request_id": "r", **dict(reversed(sent.items()))}
    assert canonical_upload("f", empty) == text.encode()


@pytest.mark.parametrize("config", [{"a": "\ud800"}, {"a": 1e999}])
def test_settings_that_have_no_canonical_form_are_a_bad_request(config: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="can't be signed"):
        canonical_upload("f", {"code_b64": "", "config": config, "signed_at": "now"})


@given(st.datetimes(timezones=st.timezones()) | st.datetimes(), st.datetimes(timezones=st.timezones()))
def test_times_of_one_form_compare_as_times(one: datetime, other: datetime) -> None:
    one = one if one.tzinfo else one.replace(tzinfo=UTC)
    with contextlib.suppress(ValueError):  # beyond the calendar, in UTC
        assert (utc_time(one.isoformat()) < utc_time(other.isoformat())) == (
            datetime.fromisoformat(one.isoformat()) < datetime.fromisoformat(other.isoformat())
        )
