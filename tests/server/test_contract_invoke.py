"""The contract of `invoke`: what a caller sends, and what comes back."""

from __future__ import annotations

import itertools
import json
import re
from datetime import datetime
from typing import Any

import pytest

from tests.harness import gated
from tests.harness.bench import Bench
from tests.harness.broker import Broker
from tests.harness.census import running
from tests.harness.client import Client, new_label
from tests.harness.server import Server
from tests.harness.waiting import eventually

ECHO = "def main(*args, **kwargs): return [list(args), kwargs]"
SUCCESS_KEYS = {
    "id", "request_id", "function", "version", "node", "status", "result",
    "time_start", "time_end", "duration_ms", "queued_ms", "cold",
}  # fmt: skip
FAILURE_KEYS = SUCCESS_KEYS - {"result"} | {"error", "code"}
ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def records_on_disk(server: Server) -> list[dict[str, Any]]:
    lines = (server.data_dir / "logs.json").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


# --- a success ------------------------------------------------------------------------------------------------------


def test_a_success_says_what_ran_where_when_and_what_came_of_it(client: Client, server: Server, function: str) -> None:
    version = client.deploy(function, ECHO)
    message = client.ask(f"faas/invoke/{function}", {"request_id": "mine", "args": [1], "kwargs": {"b": None}})
    answer = message.body
    assert message.topic == f"faas/response/invoke/{function}"
    assert set(answer) == SUCCESS_KEYS
    assert answer["status"] == "success"
    assert answer["result"] == [[1], {"b": None}]
    assert (answer["request_id"], answer["function"], answer["version"]) == ("mine", function, version)
    assert answer["node"] == server.node
    assert re.fullmatch(r"[0-9a-f]{8,}", answer["id"])
    assert ISO_TIME.fullmatch(answer["time_start"])
    assert ISO_TIME.fullmatch(answer["time_end"])
    started, ended = (datetime.fromisoformat(answer[key]) for key in ("time_start", "time_end"))
    assert abs((ended - started).total_seconds() * 1000 - answer["duration_ms"]) < 2
    assert answer["duration_ms"] >= 0
    assert answer["queued_ms"] >= 0
    assert answer["cold"] in (True, False)


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size", [70_000, 900_000])
def test_requests_and_answers_may_be_larger_than_what_the_network_carries_at_once(
    client: Client, function: str, size: int, qos: int
) -> None:
    client.deploy(function, ECHO)
    text = "x" * size
    message = client.ask(f"faas/invoke/{function}", {"args": [text]}, qos=qos)
    assert message.body["result"] == [[text], {}]


def test_an_answer_is_one_line_of_compact_json(client: Client, function: str) -> None:
    client.deploy(function, "def main(): return {'text': 'ä\\n', 'more': [1, 2]}")
    payload = client.ask(f"faas/invoke/{function}").payload
    assert b"\n" not in payload
    assert '"result":{"text":"ä\\n","more":[1,2]}'.encode() in payload


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1.5e300, 12345678901234567890123, "", "ä€𝄞\u2028\x00\x7f", [], {}, [[[]]],
        {"": 0, "ä": [None]}, "\ud800 alone",
    ],
)  # fmt: skip
def test_any_json_goes_in_and_comes_out_unchanged(client: Client, echo: str, value: Any) -> None:
    assert client.call(echo, value, keyword=value) == [[value], {"keyword": value}]


@pytest.mark.parametrize("payload", [b"", b"{}", b' {"args": []} ', b'{"kwargs": {}}'])
def test_an_empty_request_calls_main_without_arguments(client: Client, echo: str, payload: bytes) -> None:
    start = len(client.seen)
    client.publish(f"faas/invoke/{echo}", payload)
    answer = client.wait_topic(f"faas/response/invoke/{echo}", start).body
    assert answer["result"] == [[], {}]
    assert answer["request_id"] == answer["id"]


def test_unknown_keys_are_ignored(client: Client, echo: str) -> None:
    answer = client.request(f"faas/invoke/{echo}", {"args": [1], "colour": "red", "function": "another"})
    assert answer["result"] == [[1], {}]


def test_a_repeated_request_id_is_a_new_request(client: Client, echo: str) -> None:
    ids = {client.request(f"faas/invoke/{echo}", {"request_id": "same"})["id"] for _ in range(3)}
    assert len(ids) == 3


def test_an_invocation_has_exactly_one_answer_and_a_success_is_no_error(client: Client, echo: str) -> None:
    label = new_label("request")
    client.ask(f"faas/invoke/{echo}", {"request_id": label})
    client.call(echo)
    client.settle()
    assert [each.topic for each in client.answers(label)] == [f"faas/response/invoke/{echo}"]


def test_an_async_main_is_awaited(client: Client, function: str) -> None:
    client.deploy(
        function,
        """
        import asyncio

        lock = None

        async def main(x):
            global lock
            lock = lock or asyncio.Lock()   # bound to its loop: the second call must come by the same one
            async with lock:
                await asyncio.sleep(0)
            return x + 1
        """,
    )
    assert [client.call(function, 1), client.call(function, 2)] == [2, 3]


def test_module_state_lives_in_the_warm_worker(client: Client, function: str) -> None:
    client.deploy(
        function, "calls = []\ndef main(x):\n    calls.append(x)\n    return calls", config={"concurrency": 1}
    )
    answers = [client.invoke(function, number) for number in (1, 2, 3)]
    assert [answer["result"] for answer in answers] == [[1], [1, 2], [1, 2, 3]]
    assert [answer["cold"] for answer in answers] == [False] * 3  # the worker that tried the upload stays


def test_a_call_that_had_to_start_a_worker_says_so(client: Client, function: str) -> None:
    client.deploy(function, "import os\ndef main(end=False):\n    if end: os._exit(1)\n    return os.getpid()")
    client.invoke(function, True)
    assert [client.invoke(function)["cold"] for _ in range(2)] == [True, False]


# --- a failure ------------------------------------------------------------------------------------------------------


def test_an_exception_comes_with_its_type_and_the_functions_own_frames(client: Client, failing: str) -> None:
    message = client.ask(f"faas/invoke/{failing}")
    answer = message.body
    assert message.topic == f"faas/response/invoke/{failing}"
    assert set(answer) == FAILURE_KEYS | {"error_type", "traceback"}
    assert (answer["status"], answer["code"], answer["error_type"]) == ("error", "function_error", "ValueError")
    assert answer["error"] == "ValueError: it broke"
    frames = re.findall(r'File "(.*?)", line \d+, in (\w+)', answer["traceback"])
    assert frames == [("func.py", "main"), ("func.py", "helper")]
    assert answer["traceback"].rstrip().endswith("ValueError: it broke")


def test_an_error_is_one_line_however_many_its_message_has(client: Client, failing: str) -> None:
    answer = client.invoke(failing, "first\nsecond\r\n\tthird" + "x" * 10_000)
    assert answer["error"].startswith("ValueError: first second third")
    assert len(answer["error"]) <= 500
    assert "\n" not in answer["error"]


def test_an_error_appears_on_the_error_topic_with_topic_and_command_added(client: Client, failing: str) -> None:
    own = client.ask(f"faas/invoke/{failing}", {"request_id": new_label("request")}).body
    shown = client.wait_topic("faas/response/error", request_id=own["request_id"]).body
    assert shown == {**own, "topic": f"faas/invoke/{failing}", "command": "invoke"}


def test_a_function_that_does_not_exist_is_not_found(client: Client, server: Server, function: str) -> None:
    message = client.ask(f"faas/invoke/{function}", {"request_id": "r"})
    assert message.topic == f"faas/response/invoke/{function}"
    assert set(message.body) == FAILURE_KEYS
    assert message.body["code"] == "not_found"
    assert message.body["version"] is None
    assert (message.body["function"], message.body["node"]) == (function, server.node)


def test_arguments_that_main_does_not_take_are_the_functions_error(client: Client, function: str) -> None:
    client.deploy(function, "def main(x): return x")
    answer = client.invoke(function)
    assert (answer["code"], answer["error_type"]) == ("function_error", "TypeError")
    assert "missing 1 required positional argument" in answer["error"]


# --- who, when, and how many at once ---------------------------------------------------------------------------------


def test_a_request_for_another_node_is_ignored_without_an_answer(client: Client, server: Server, function: str) -> None:
    client.deploy(function, ECHO, config={"concurrency": 1})  # in order, so the second answer tells about the first
    client.publish(f"faas/invoke/{function}", {"request_id": "foreign", "node": "another"})
    mine = client.request(f"faas/invoke/{function}", {"request_id": "ours", "node": server.node})
    client.settle()
    assert mine["status"] == "success"
    assert client.answers("foreign") == []
    assert [record["request_id"] for record in logs(client, function)] == ["ours"]


def test_a_request_past_its_deadline_is_not_started(client: Client, server: Server, function: str) -> None:
    gate = gated.deploy(server, client, function, {"concurrency": 1})
    client.publish(f"faas/invoke/{function}", {"request_id": "first", "args": [1]})
    gate.wait_waiting()
    topic = f"faas/invoke/{function}"
    client.publish(topic, {"request_id": "late", "deadline_ms": 1})
    client.publish(topic, {"request_id": "zero", "deadline_ms": 0})
    client.publish(topic, {"request_id": "patient", "deadline_ms": 600_000, "args": [2]})
    eventually(lambda: client.request("faas/admin/status")["queue"]["waiting"] >= 3, "three requests to wait")
    gate.open()
    assert client.answer_to("first").body["result"] == 1
    for label in ("late", "zero"):
        late = client.answer_to(label).body
        assert (late["code"], set(late)) == ("expired", FAILURE_KEYS)
    patient = client.answer_to("patient").body
    assert patient["result"] == 2
    assert patient["queued_ms"] > 1
    assert gate.waiting() == 2  # the late ones never ran


def test_a_call_beyond_its_time_is_killed_with_what_it_started(client: Client, server: Server, function: str) -> None:
    client.deploy(
        function,
        """
        import subprocess, time

        def main():
            subprocess.Popen(["sleep", "601.25"])
            time.sleep(600)
        """,
        config={"timeout_s": 0.5},
    )
    answer = client.invoke(function)
    assert (answer["code"], set(answer)) == ("timeout", FAILURE_KEYS)
    assert "0.5 s" in answer["error"]
    assert 450 < answer["duration_ms"] < 20_000
    eventually(lambda: not running("sleep 601.25"), "the child to be gone")


def test_a_payload_beyond_the_functions_limit_is_refused(client: Client, function: str) -> None:
    client.deploy(function, ECHO, config={"max_payload_bytes": 200})
    answer = client.invoke(function, "x" * 200)
    assert answer["code"] == "bad_request"
    assert "200 are allowed" in answer["error"]
    assert client.call(function, "x") == [["x"], {}]


def test_a_result_beyond_the_functions_limit_is_bad(client: Client, function: str) -> None:
    client.deploy(function, "def main(n): return 'x' * n", config={"max_result_bytes": 100})
    assert client.call(function, 98) == "x" * 98
    answer = client.invoke(function, 99)
    assert (answer["code"], set(answer)) == ("bad_result", FAILURE_KEYS)
    assert "100 are allowed" in answer["error"]


def test_as_many_calls_run_at_once_as_the_functions_settings_say(client: Client, server: Server, function: str) -> None:
    gate = gated.deploy(server, client, function, {"concurrency": 1})
    labels = [new_label("request") for _ in range(3)]
    for label in labels:
        client.publish(f"faas/invoke/{function}", {"request_id": label})
    gate.wait_waiting(1)
    eventually(lambda: client.request("faas/admin/status")["queue"]["waiting"] >= 2, "two requests to wait")
    assert gate.waiting() == 1
    gate.open()
    answers = [client.answer_to(label).body for label in labels]
    for before, after in itertools.pairwise(answers):  # in the order they came, one after the other
        assert before["time_end"] <= after["time_start"]


def test_one_function_leaves_a_thread_for_the_others(client: Client, server: Server, echo: str, function: str) -> None:
    gate = gated.deploy(server, client, function)
    labels = [new_label("request") for _ in range(20)]
    for label in labels:
        client.publish(f"faas/invoke/{function}", {"request_id": label})
    gate.wait_waiting(2)  # the shared server has three threads
    assert client.call(echo, "beside") == [["beside"], {}]
    assert gate.waiting() == 2
    gate.open()
    assert {client.answer_to(label).body["status"] for label in labels} == {"success"}


def test_a_request_at_qos_0_beyond_what_the_server_holds_is_told_so_and_one_at_qos_1_waits(
    bench: Bench, function: str
) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"queue_max_requests": 2}).start()
    client = bench.client(broker)
    gate = gated.deploy(server, client, function, {"concurrency": 1})
    for label in ("runs", "waits"):
        client.publish(f"faas/invoke/{function}", {"request_id": label})
    gate.wait_waiting()
    client.publish(f"faas/invoke/{function}", {"request_id": "too many"}, qos=0)
    client.publish(f"faas/invoke/{function}", {"request_id": "patient"}, qos=1)
    refused = client.answer_to("too many").body
    assert (refused["code"], set(refused)) == ("overloaded", FAILURE_KEYS)
    gate.open()
    assert {client.answer_to(label).body["status"] for label in ("runs", "waits", "patient")} == {"success"}


# --- how answers travel ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("kind", ["success", "error"])
def test_an_answer_has_the_qos_of_its_request(client: Client, echo: str, failing: str, kind: str, qos: int) -> None:
    name = echo if kind == "success" else failing
    label = new_label("request")
    assert client.ask(f"faas/invoke/{name}", {"request_id": label}, qos=qos).qos == qos
    if kind == "error":
        assert client.wait_topic("faas/response/error", request_id=label).qos == qos


def test_answers_are_never_retained(client: Client, broker: Broker, echo: str, failing: str) -> None:
    client.call(echo)
    client.invoke(failing)
    client.request("faas/admin/list")
    client.request("faas/admin/unknown")
    client.settle()
    with Client(broker.port) as newcomer:
        newcomer.settle()  # what is retained comes with the subscription, before this
        assert [each for each in newcomer.seen if each.retain and not each.topic.startswith("faas/node/")] == []


def test_answers_say_that_they_are_json_to_who_speaks_mqtt_5(client: Client, echo: str, failing: str) -> None:
    assert client.ask(f"faas/invoke/{echo}").content_type == "application/json"
    label = client.ask(f"faas/invoke/{failing}").body["request_id"]
    assert client.wait_topic("faas/response/error", request_id=label).content_type == "application/json"


def test_a_client_of_mqtt_3_can_use_all_of_it(server: Server, broker: Broker, function: str) -> None:
    with Client(broker.port, v5=False) as old:
        assert old.deploy(function, ECHO) == 1
        assert old.call(function, 1) == [[1], {}]
        assert function in old.request("faas/admin/list")["functions"]
        assert len(logs(old, function)) == 1
        assert old.request(f"faas/admin/delete/{function}")["status"] == "deleted"
        assert old.invoke(function)["code"] == "not_found"


def test_an_answer_goes_out_before_its_request_is_acknowledged(bench: Bench, function: str) -> None:
    broker = bench.broker(talkative=True)
    server = bench.server(broker).start()
    client = bench.client(broker)
    client.deploy(function, ECHO)
    client.call(function)
    me = re.escape(f"tinyfaas-{server.node}")
    topic = re.escape(f"faas/response/invoke/{function}")
    order = re.compile(rf"Received PUBLISH from {me} .*'{topic}'.*?Received PUBACK from {me} ", re.DOTALL)
    eventually(lambda: order.search(broker.log()), "the answer and then the acknowledgement in the broker's log")
    before = broker.log().partition(f"Received PUBLISH from tinyfaas-{server.node} ")[0]
    assert f"Received PUBACK from tinyfaas-{server.node} " not in before


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_an_outcome_is_in_the_history_before_its_answer_is_sent(
    client: Client, server: Server, echo: str, failing: str
) -> None:
    for _ in range(20):
        for name in (echo, failing):
            answer = client.invoke(name)
            assert any(record.get("id") == answer["id"] for record in records_on_disk(server))


def test_what_a_function_prints_is_in_the_log_with_function_and_invocation(
    client: Client, server: Server, function: str
) -> None:
    client.deploy(
        function,
        """
        import sys

        print("imported")

        def main(x):
            print("out", x)
            print("err", x, file=sys.stderr)
            print("no newline", end="")
        """,
    )
    answer = client.invoke(function, "ä")
    printed = server.log.records(event="function_output", invocation_id=answer["id"])
    assert {(record["stream"], record["line"]) for record in printed} == {
        ("stdout", "out ä"), ("stderr", "err ä"), ("stdout", "no newline"),
    }  # fmt: skip
    assert {(record["function"], record["version"]) for record in printed} == {(function, 1)}
    assert server.log.wait(event="function_output", function=function, line="imported")


def test_a_function_sees_nothing_of_the_servers_environment(client: Client, server: Server, function: str) -> None:
    client.deploy(function, "import os\ndef main(): return [dict(os.environ), os.getcwd()]")
    environment, folder = client.call(function)
    assert set(environment) <= {
        "PATH", "PWD", "HOME", "LANG", "LC_CTYPE", "TINYFAAS_STATE_DIR", "TINYFAAS_FUNCTION", "TINYFAAS_VERSION",
        "TINYFAAS_NODE",
    }  # fmt: skip
    assert environment["TINYFAAS_NODE"] == server.node
    assert folder == environment["TINYFAAS_STATE_DIR"]


def logs(client: Client, function: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = client.request(f"faas/admin/logs/{function}")["logs"]
    return records
