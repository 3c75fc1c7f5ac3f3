"""Requests that make no sense: each has its clear answer, and the server goes on serving."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import packages
from tests.harness.bench import Bench, Grounds
from tests.harness.broker import Broker
from tests.harness.client import Client, Message, new_label, upload_body
from tests.harness.server import Server

GOOD = "def main(*args): return list(args)"
DEEP = 10_000
BAD_NAMES = [
    "", "a/b", "/", "..", ".", "../../etc", "#", "+", "a#", "a+b", "ä", "名", "a b", " a", "a\n", "a\0", "-a", "_a",
    "a.b", "a" * 64, "a" * 300, "%2e%2e", "$SYS", "\ud800",
]  # fmt: skip


@pytest.fixture
def listener(server: Server, broker: Broker) -> Iterator[Client]:
    """A client that sees answers, but not the large requests of these tests."""
    with Client(broker.port, topics=("faas/response/#", "faas/event/#", "faas/marker/#")) as client:
        yield client


@pytest.fixture(autouse=True)
def still_serving(listener: Client, echo: str) -> Iterator[None]:
    """After each of these requests a good function answers, and so does administration."""
    yield
    assert listener.call(echo, "still") == [["still"], {}]
    assert listener.request("faas/admin/status")["status"] == "running"


def errors_after(client: Client, topic: str, payload: bytes | str | dict[str, Any] = b"") -> list[Message]:
    """Publish, and return what comes for it: the answer on its own topic, if it has one, and on the error topic."""
    start = len(client.seen)
    client.publish(topic, payload)
    client.wait(lambda each: each.topic == "faas/response/error" and each.body["topic"] == topic, topic, start)
    client.settle()
    return [each for each in client.seen[start:] if each.topic.startswith("faas/response/")]


# --- payloads --------------------------------------------------------------------------------------------------------

BAD_PAYLOADS = {
    "not UTF-8": (b'{"request_id": "\xff"}', "UTF-8"),
    "UTF-16": ('{"args": []}'.encode("utf-16"), "UTF-8"),
    "no JSON": (b"hello", "not JSON"),
    "half an object": (b'{"args": [1, 2', "not JSON"),
    "two objects": (b"{}{}", "not JSON"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "not JSON"),
    "NaN": (b'{"args": [NaN]}', "NaN"),
    "Infinity": (b'{"args": [-Infinity]}', "Infinity"),
    "a number of 5000 digits": (b'{"args": [' + b"9" * 5000 + b"]}", "not JSON"),
    "an array": (b"[]", "must be a JSON object, not an array"),
    "a string": (b'"text"', "must be a JSON object, not a string"),
    "a number": (b"5", "must be a JSON object, not a number"),
    "null": (b"null", "must be a JSON object, not null"),
    "arrays nested 10,000 deep": (b"[" * DEEP + b"]" * DEEP, "nested too deeply"),
    "arguments nested 10,000 deep": (b'{"args":' + b"[" * DEEP + b"]" * DEEP + b"}", "nested too deeply"),
    "objects nested 10,000 deep": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "nested too deeply"),
    "arrays nested 10,000 deep and not closed": (b"[" * DEEP, "nested too deeply"),
    "a request id that is no string": (b'{"request_id": 5}', '"request_id"'),
    "a long request id": (json.dumps({"request_id": "x" * 257}).encode(), '"request_id"'),
    "a node that is no string": (b'{"node": ["x"]}', '"node"'),
    "a deadline that is no number": (b'{"deadline_ms": "soon"}', '"deadline_ms"'),
    "a negative deadline": (b'{"deadline_ms": -1}', '"deadline_ms"'),
    "a deadline that is true": (b'{"deadline_ms": true}', '"deadline_ms"'),
}
BAD_ARGUMENTS = {
    "args that is an object": (b'{"args": {}}', '"args" must be an array, not an object'),
    "args that is a string": (b'{"args": "abc"}', '"args" must be an array, not a string'),
    "args that is null": (b'{"args": null}', '"args" must be an array, not null'),
    "kwargs that is an array": (b'{"kwargs": []}', '"kwargs" must be an object, not an array'),
    "kwargs that is a number": (b'{"kwargs": 1}', '"kwargs" must be an object, not a number'),
}


def cases(table: dict[str, tuple[Any, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("payload", "said"), list(table.values()), ids=list(table))


@cases(BAD_PAYLOADS | BAD_ARGUMENTS)
def test_a_bad_payload_of_an_invocation_is_a_bad_request(
    listener: Client, echo: str, payload: bytes, said: str
) -> None:
    own, shown = errors_after(listener, f"faas/invoke/{echo}", payload)
    assert own.topic == f"faas/response/invoke/{echo}"
    assert (own.body["status"], own.body["code"]) == ("error", "bad_request")
    assert said in own.body["error"]
    assert own.body["request_id"]
    assert shown.body == {**own.body, "topic": f"faas/invoke/{echo}", "command": "invoke"}


@cases(BAD_PAYLOADS)
@pytest.mark.parametrize("command", ["list", "info", "upload"])
def test_a_bad_payload_of_a_command_is_a_bad_request(
    listener: Client, echo: str, command: str, payload: bytes, said: str
) -> None:
    rest = command if command == "list" else f"{command}/{echo}"
    own, shown = errors_after(listener, f"faas/admin/{rest}", payload)
    assert own.topic == f"faas/response/admin/{rest}"
    assert (own.body["status"], own.body["code"]) == ("error", "bad_request")
    assert said in own.body["error"]
    assert shown.body == {**own.body, "topic": f"faas/admin/{rest}", "command": command}


def test_twenty_megabytes_are_refused_and_still_answered_to_who_asked(listener: Client, echo: str) -> None:
    payload = json.dumps({"request_id": "big", "args": ["x" * 20_000_000]})
    for topic in (f"faas/invoke/{echo}", f"faas/admin/upload/{echo}"):
        own, _ = errors_after(listener, topic, payload)
        assert own.body["code"] == "bad_request"
        assert "are allowed" in own.body["error"]
        assert own.body["request_id"] == "big"


@pytest.mark.parametrize("depth", range(100, 1_200, 50))
def test_at_no_depth_does_nesting_become_the_servers_own_fault(listener: Client, echo: str, depth: int) -> None:
    label = new_label("request")
    listener.publish(f"faas/invoke/{echo}", f'{{"request_id": "{label}", "args": {"[" * depth + "]" * depth}}}')
    answer = listener.wait(lambda each: each.topic == f"faas/response/invoke/{echo}", "an answer")
    succeeded = b'"status":"success"' in answer.payload  # its result may be nested deeper than can be read here
    assert succeeded or answer.body["code"] in ("bad_request", "function_error", "bad_result")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 4000, "1e-999", "-0", "1E400"])
def test_no_number_becomes_the_servers_own_fault(listener: Client, echo: str, number: str) -> None:
    payloads = (f'{{"args": [{number}]}}', f'{{"kwargs": {{"x": {number}}}}}', f'{{"deadline_ms": {number}}}')
    for payload in payloads:
        start = len(listener.seen)
        listener.publish(f"faas/invoke/{echo}", payload)
        topic = f"faas/response/invoke/{echo}"
        answer = listener.wait_topic(topic, start).body
        assert answer["status"] == "success" or answer["code"] in ("bad_request", "bad_result", "expired"), answer


@pytest.mark.parametrize("label", ["\ud800", "\0", '"}', "\u2028", "ä" * 256, "'; drop table"])
def test_an_odd_request_id_comes_back_as_it_was(listener: Client, echo: str, label: str) -> None:
    assert listener.request(f"faas/invoke/{echo}", {"request_id": label})["request_id"] == label
    assert listener.request("faas/admin/list", {"request_id": label})["request_id"] == label


# --- names and topics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize("command", ["upload", "delete"])
def test_a_name_that_is_none_is_answered_on_the_error_topic_alone(listener: Client, command: str, name: str) -> None:
    label = new_label("request")
    body = {"request_id": label, "function": name, **upload_body(GOOD)}
    (only,) = errors_after(listener, f"faas/admin/{command}", body)
    assert only.topic == "faas/response/error"
    assert (only.body["code"], only.body["command"], only.body["request_id"]) == ("bad_request", command, label)
    assert "function" not in only.body


@pytest.mark.parametrize("name", [None, 5, True, [], {}], ids=str)
def test_a_name_that_is_no_string_is_answered_on_the_error_topic_alone(listener: Client, name: object) -> None:
    (only,) = errors_after(listener, "faas/admin/info", {"function": name})
    assert (only.topic, only.body["code"]) == ("faas/response/error", "bad_request")


@pytest.mark.parametrize("name", ["..", ".", "ä", "a b", "-a", "a.b", "a" * 64, "a" * 300, "a/b", "a/", "/a", "/", ""])
@pytest.mark.parametrize("kind", ["invoke", "admin/info", "admin/upload"])
def test_a_topic_whose_function_is_no_name_is_answered_on_the_error_topic_alone(
    listener: Client, kind: str, name: str
) -> None:
    (only,) = errors_after(listener, f"faas/{kind}/{name}", {"request_id": "mine"})
    assert (only.topic, only.body["code"]) == ("faas/response/error", "bad_request")
    assert only.body["request_id"] == "mine"
    assert only.body["command"] == kind.removeprefix("admin/")


@pytest.mark.parametrize("rest", ["frobnicate", "frobnicate/x", "", "/", "LIST", "list ", "upload-x", "ä" * 300])
def test_an_unknown_command_is_refused_with_those_there_are(listener: Client, rest: str) -> None:
    (only,) = errors_after(listener, f"faas/admin/{rest}", {"request_id": "mine"})
    assert (only.topic, only.body["code"]) == ("faas/response/error", "bad_request")
    assert "unknown command" in only.body["error"]
    assert "rollback" in only.body["error"]
    assert only.body["request_id"] == "mine"


@pytest.mark.parametrize("rest", ["info/{}/more", "upload/{}/a/b/c", "list/{}", "status/x"])
def test_an_admin_topic_one_level_too_deep_is_refused(listener: Client, echo: str, rest: str) -> None:
    answers = errors_after(listener, f"faas/admin/{rest.format(echo)}")
    assert {each.body["code"] for each in answers} == {"bad_request"}


def test_the_base_topics_themselves_are_no_requests(listener: Client) -> None:
    for topic in ("faas/invoke", "faas/admin"):
        (only,) = errors_after(listener, topic)
        assert only.body["code"] == "bad_request"


# --- uploads ---------------------------------------------------------------------------------------------------------


def refused(client: Client, function: str, body: dict[str, Any]) -> str:
    """Upload something that is refused before anything is built; returns why."""
    label = new_label("request")
    answer = client.request(f"faas/admin/upload/{function}", {"request_id": label, **body})
    assert (answer["status"], answer["code"]) == ("error", "bad_request")
    client.settle()
    assert [each for each in client.seen if each.topic.startswith("faas/event/")] == []
    return str(answer["error"])


@pytest.mark.parametrize(
    "code",
    ["ZGVm-_==", "ZGVm IA==", "ZGVm\n", "ZGVmI", "Z", "=", "ä", "\ud800", 5, None, ["ZGVm"], True],
    ids=ascii,
)
def test_base64_with_a_wrong_alphabet_is_refused(listener: Client, function: str, code: object) -> None:
    assert '"code_b64"' in refused(listener, function, {"code_b64": code})
    assert '"req_b64"' in refused(listener, function, {**upload_body(GOOD), "req_b64": code})


def test_an_upload_without_code_is_refused(listener: Client, function: str) -> None:
    assert '"code_b64" is required' in refused(listener, function, {})


def test_requirements_that_are_no_text_are_refused(listener: Client, function: str) -> None:
    body = {**upload_body(GOOD), "req_b64": base64.b64encode(b"numpy\0").decode()}
    assert '"req_b64"' in refused(listener, function, body)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ([], '"config" must be an object'),
        ("timeout_s = 5", '"config" must be an object'),
        ({"timeout": 5}, "config.timeout: no such setting"),
        ({"timeout_s": "5"}, "config.timeout_s"),
        ({"timeout_s": True}, "config.timeout_s"),
        ({"timeout_s": 0}, "config.timeout_s: 0 is not a number from 0.05"),
        ({"timeout_s": 1e9}, "config.timeout_s"),
        ({"concurrency": 1.5}, "config.concurrency"),
        ({"concurrency": -1}, "config.concurrency"),
        ({"max_result_bytes": 10**30}, "config.max_result_bytes"),
        ({"": 1}, "no such setting"),
    ],
)
def test_a_setting_that_can_not_be_used_is_refused_before_anything_is_built(
    listener: Client, function: str, config: object, said: str
) -> None:
    assert said in refused(listener, function, {**upload_body(GOOD), "config": config})


BAD_CODE: dict[str, tuple[str | bytes, str]] = {
    "a syntax error": ("def main(:\n  pass", "SyntaxError"),
    "a tab too many": ("def main():\n  x = 1\n\ty = 2", "TabError"),
    "no main": ("def mian(): pass", "func.py defines no main"),
    "nothing at all": ("", "func.py defines no main"),
    "a main that is None": ("main = None", "main"),
    "a main that is not callable": ("main = 5", "not callable"),
    "an exception at import": ("raise RuntimeError('not today')", "RuntimeError: not today"),
    "a module that is not there": ("import no_such_module_at_all\nmain = print", "ModuleNotFoundError"),
    "sys.exit at import": ("import sys\nsys.exit(0)", "SystemExit"),
    "os._exit at import": ("import os\nos._exit(0)", "exited with status 0"),
    "a segfault at import": ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
    "endless recursion at import": ("def f(): f()\nf()", "RecursionError"),
    "a NUL byte": (b"def main(): return 1\0", ""),
    "no UTF-8": (b"def main(): return '\xff'", ""),
    "garbage": (bytes(range(256)), ""),
    "an exception that can not be shown": (
        "class E(Exception):\n    def __str__(self): raise E\nraise E",
        "E",
    ),
    "a mountain of text at import": ("raise ValueError('x' * 10_000_000)", "ValueError: xxx"),
}


@cases(BAD_CODE)
def test_code_that_does_not_load_is_a_failed_build(
    listener: Client, function: str, payload: str | bytes, said: str
) -> None:
    answer = listener.request(f"faas/admin/upload/{function}", upload_body(payload))
    assert (answer["status"], answer["code"]) == ("error", "build_failed")
    assert said in answer["error"]
    assert "detail" in answer
    assert listener.invoke(function)["code"] == "not_found"


def test_code_that_loops_at_import_is_given_up_while_others_are_served(bench: Bench, function: str) -> None:
    broker = bench.broker()
    bench.server(broker, {"pool_start_timeout_s": 1.5, "uploads_threads": 1}).start()
    client = bench.client(broker)
    client.deploy("good", GOOD)
    client.publish("faas/admin/upload/looping", {"request_id": "loop", **upload_body("while True: pass")})
    client.wait_topic("faas/event/upload/looping", phase="import")
    assert client.call("good", 1) == [1]
    answer = client.answer_to("loop").body
    assert (answer["code"], answer["error"]) == ("build_failed", "func.py was not loaded within 1.5 s")
    assert client.deploy("looping", GOOD) == 1


def test_requirements_that_do_not_exist_are_a_failed_build(listener: Client, grounds: Grounds, function: str) -> None:
    for requirements in ("--no-index\nno-such-package-anywhere", str(grounds.folder / "no-such.whl"), "-r other.txt"):
        answer = listener.upload(function, GOOD, requirements)
        assert (answer["status"], answer["code"]) == ("error", "build_failed")
        assert answer["detail"]


def test_requirements_that_make_no_sense_are_a_failed_build(listener: Client, function: str) -> None:
    for requirements in ("!!! what is this", "--no-such-option", "numpy=="):
        answer = listener.upload(function, GOOD, f"--no-index\n{requirements}")
        assert (answer["status"], answer["code"]) == ("error", "build_failed")
        assert answer["detail"]


def test_requirements_that_do_not_compile_are_a_failed_build(listener: Client, grounds: Grounds, function: str) -> None:
    project = packages.that_does_not_compile(grounds.new_wheels())
    grounds.account.own(project)
    answer = listener.upload(function, GOOD, str(project))
    assert (answer["status"], answer["code"]) == ("error", "build_failed")
    assert "command cc failed" in answer["detail"]
    assert len(answer["detail"].splitlines()) <= 40
    assert listener.invoke(function)["code"] == "not_found"


def test_a_build_that_takes_too_long_is_given_up(bench: Bench, function: str) -> None:
    broker = bench.broker()
    bench.server(broker, {"uploads_build_timeout_s": 1.0}).start()
    client = bench.client(broker)
    project = packages.that_takes_forever(bench.grounds.new_wheels())
    bench.grounds.account.own(project)
    answer = client.upload(function, GOOD, str(project))
    assert (answer["code"], answer["error"]) == ("build_failed", "the environment could not be built: it took too long")
    assert client.deploy(function, GOOD) == 1
