"""The contract of the administrative commands, but for `upload`, which has a file of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.harness import gated, packages
from tests.harness.bench import Bench, Grounds
from tests.harness.client import Client, new_label, upload_body
from tests.harness.server import Server
from tests.harness.waiting import eventually

ECHO = "def main(*args, **kwargs): return [list(args), kwargs]"
COMMON_KEYS = {"status", "request_id", "node"}
ERROR_KEYS = COMMON_KEYS | {"error", "code"}
DETAILS_KEYS = {"function", "version", "state", "calls", "errors", "warm", "uploaded"}
RECORD_KEYS = {
    "id", "request_id", "function", "version", "node", "status", "result", "args",
    "time_start", "time_end", "duration_ms", "queued_ms", "cold",
}  # fmt: skip
ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def details(client: Client, function: str) -> dict[str, Any]:
    """What `list` says about one function."""
    answer = client.request("faas/admin/list")
    return next(each for each in answer["details"] if each["function"] == function)


def logs(client: Client, function: str, **query: Any) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = client.request(f"faas/admin/logs/{function}", query)["logs"]
    return records


# --- list and info ---------------------------------------------------------------------------------------------------


def test_list_names_the_functions_and_says_how_each_is(client: Client, server: Server, function: str) -> None:
    client.deploy(function, ECHO)
    message = client.ask("faas/admin/list", {"request_id": "mine"})
    answer = message.body
    assert message.topic == "faas/response/admin/list"
    assert set(answer) == COMMON_KEYS | {"functions", "details"}
    assert (answer["status"], answer["request_id"], answer["node"]) == ("ok", "mine", server.node)
    assert answer["functions"] == sorted(answer["functions"])
    assert [each["function"] for each in answer["details"]] == answer["functions"]
    mine = details(client, function)
    assert set(mine) == DETAILS_KEYS
    assert (mine["version"], mine["state"], mine["calls"], mine["errors"], mine["warm"]) == (1, "ready", 0, 0, 1)
    assert ISO_TIME.fullmatch(mine["uploaded"])


def test_list_counts_calls_and_errors(client: Client, function: str) -> None:
    client.deploy(function, "def main(x): return 1 / x")
    for x in (1, 0, 2):
        client.invoke(function, x)
    mine = details(client, function)
    assert (mine["calls"], mine["errors"]) == (3, 1)


def test_info_tells_versions_settings_python_and_packages(client: Client, grounds: Grounds, function: str) -> None:
    wheel = packages.wheel(grounds.new_wheels(), "probe", "2.5")
    client.deploy(function, ECHO)
    client.deploy(function, ECHO, str(wheel), {"timeout_s": 7, "concurrency": 2})
    message = client.ask(f"faas/admin/info/{function}")
    answer = message.body
    assert message.topic == f"faas/response/admin/info/{function}"
    wired = {"subscribes", "publishes", "schedules"}
    assert set(answer) == COMMON_KEYS | DETAILS_KEYS | {"versions", "config", "python", "requirements"} | wired
    assert [version["version"] for version in answer["versions"]] == [1, 2]
    for version in answer["versions"]:
        assert set(version) == {"version", "uploaded", "digest"}
        assert re.fullmatch(r"[0-9a-f]{64}", version["digest"])
    assert answer["versions"][0]["digest"] != answer["versions"][1]["digest"]
    assert (answer["config"]["timeout_s"], answer["config"]["concurrency"]) == (7, 2)
    assert {"max_payload_bytes", "max_result_bytes"} <= set(answer["config"])
    assert re.fullmatch(r"3\.\d+\.\d+", answer["python"])
    assert answer["requirements"] == ["probe==2.5"]


def test_a_function_that_is_built_anew_is_said_to_be_building(client: Client, server: Server, function: str) -> None:
    client.deploy(function, ECHO)
    client.publish(f"faas/admin/upload/{function}", {"request_id": "slow", **upload_body(gated.IMPORT)})
    gate = gated.Gate(server, function)
    gate.wait_waiting()
    assert details(client, function)["state"] == "building"
    assert client.request("faas/admin/status")["functions"]["building"] >= 1
    gate.open()
    assert client.answer_to("slow").body["status"] == "ok"
    eventually(lambda: details(client, function)["state"] == "ready", "the function to be ready")


def test_a_function_whose_workers_die_at_start_is_failing_until_it_recovers(
    client: Client, server: Server, function: str
) -> None:
    client.deploy(
        function,
        """
        import os

        if os.path.exists("poison"):
            raise RuntimeError("poisoned")

        def main(end=False):
            if end: os._exit(1)
            return "well"
        """,
    )
    poison = server.functions_dir / function / "state" / "poison"
    poison.touch()
    client.invoke(function, True)
    first, second = client.invoke(function), client.invoke(function)
    assert first["code"] == "crashed"
    assert "RuntimeError: poisoned" in first["error"]
    assert second["code"] == "unavailable"
    mine = details(client, function)
    assert set(mine) == DETAILS_KEYS | {"reason"}
    assert (mine["state"], "poisoned" in mine["reason"]) == ("failing", True)
    assert client.request("faas/admin/status")["functions"]["failing"] >= 1
    poison.unlink()
    eventually(lambda: client.invoke(function)["status"] == "success", "the function to recover")
    assert details(client, function)["state"] == "ready"


# --- logs ------------------------------------------------------------------------------------------------------------


def test_logs_are_the_answers_with_their_arguments(client: Client, function: str) -> None:
    client.deploy(function, ECHO)
    answers = [client.invoke(function, 1), client.invoke(function, 2, key="value")]
    message = client.ask(f"faas/admin/logs/{function}", {"request_id": "mine"})
    assert message.topic == f"faas/response/admin/logs/{function}"
    assert set(message.body) == COMMON_KEYS | {"function", "logs"}
    assert (message.body["status"], message.body["function"]) == ("ok", function)
    first, second = message.body["logs"]
    assert set(first) == RECORD_KEYS
    assert first == {**answers[0], "args": [1]}
    assert second == {**answers[1], "args": [2], "kwargs": {"key": "value"}}


def test_logs_are_limited_to_the_newest_which_come_last(client: Client, function: str) -> None:
    client.deploy(function, ECHO)
    for number in range(5):
        client.invoke(function, number)
    assert [record["args"] for record in logs(client, function)] == [[0], [1], [2], [3], [4]]
    assert [record["args"] for record in logs(client, function, limit=2)] == [[3], [4]]


def test_logs_can_be_filtered_by_status_and_time(client: Client, function: str) -> None:
    client.deploy(function, "def main(x): return 1 / x")
    answers = [client.invoke(function, x) for x in (1, 0, 2)]
    assert [record["args"] for record in logs(client, function, status="error")] == [[0]]
    assert [record["args"] for record in logs(client, function, status="success")] == [[1], [2]]
    assert [record["args"] for record in logs(client, function, status="success", limit=1)] == [[2]]
    since = answers[1]["time_start"]
    assert [record["id"] for record in logs(client, function, since=since)][-2:] == [each["id"] for each in answers[1:]]
    offset = since.replace("Z", "+00:00")
    assert logs(client, function, since=offset) == logs(client, function, since=since)
    assert logs(client, function, since="2999-01-01T00:00:00Z") == []
    assert len(logs(client, function, since="2000-01-01")) == 3


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": "3"}, {"limit": True}, {"limit": 1e3}, {"status": "bad"}, {"since": "yesterday"},
              {"since": 5}, {"status": None}],
)  # fmt: skip
def test_logs_refuse_a_query_that_makes_no_sense(client: Client, echo: str, query: dict[str, Any]) -> None:
    answer = client.request(f"faas/admin/logs/{echo}", query)
    assert answer["code"] == "bad_request"
    assert f'"{next(iter(query))}"' in answer["error"]


def test_long_arguments_and_results_are_cut_in_the_logs(client: Client, function: str) -> None:
    client.deploy(function, "def main(*args, **kwargs): return kwargs.get('result', args)")
    client.call(function, "ä" * 5_000)
    client.call(function, long="x" * 5_000, result=1)
    client.call(function, "short")
    both, arguments, neither = logs(client, function)
    assert both["cut"] is True
    assert both["args"].startswith('["ääää')
    assert both["result"].startswith('["ääää')
    assert len(both["args"].encode()) < 1_100
    assert (arguments["cut"], arguments["result"]) == (True, 1)
    assert isinstance(arguments["kwargs"], str)
    assert "cut" not in neither


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_tells_how_server_and_device_are_in_plain_numbers(client: Client, server: Server, echo: str) -> None:
    client.call(echo)
    message = client.ask("faas/admin/status", {"request_id": "mine"})
    status = message.body
    assert message.topic == "faas/response/admin/status"
    assert set(status) == COMMON_KEYS | {
        "version", "uptime_s", "cpu", "memory", "device", "queue", "workers", "limits", "mqtt", "functions",
    }  # fmt: skip
    assert (status["status"], status["request_id"], status["node"]) == ("running", "mine", server.node)
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", status["version"])
    assert 0 < status["uptime_s"] < 3600
    assert 5e6 < status["memory"]["process_rss_bytes"] < 5e8
    assert status["memory"]["workers_rss_bytes"] > 1e6
    assert status["memory"]["total_bytes"] > status["memory"]["available_bytes"] > 0
    assert status["device"]["disk_free_bytes"] > 0
    assert status["device"]["temperature_c"] is None or -50 < status["device"]["temperature_c"] < 150
    assert status["workers"]["threads"] == 3
    assert status["workers"]["busy"] + status["workers"]["idle"] >= 1
    assert {"sandbox", "memory"} <= set(status["limits"])
    assert status["mqtt"]["connected"] is True
    assert status["functions"]["count"] >= 1


def test_status_holds_only_numbers_texts_and_what_can_not_be_told(client: Client) -> None:
    def leaves(value: object) -> list[object]:
        return [leaf for inner in value.values() for leaf in leaves(inner)] if isinstance(value, dict) else [value]

    for leaf in leaves(client.request("faas/admin/status")):
        assert leaf is None or isinstance(leaf, bool | int | float | str)


# --- delete ----------------------------------------------------------------------------------------------------------


def test_delete_says_deleted(client: Client, server: Server, function: str) -> None:
    client.deploy(function, ECHO)
    message = client.ask(f"faas/admin/delete/{function}", {"request_id": "mine"})
    assert message.topic == f"faas/response/admin/delete/{function}"
    assert message.body == {"status": "deleted", "function": function, "request_id": "mine", "node": server.node}
    assert client.invoke(function)["code"] == "not_found"
    assert function not in client.request("faas/admin/list")["functions"]


@pytest.mark.parametrize("command", ["delete", "rollback", "info", "logs", "redrive"])
def test_a_command_about_a_function_that_does_not_exist_finds_nothing(
    client: Client, server: Server, function: str, command: str
) -> None:
    label = new_label("request")
    message = client.ask(f"faas/admin/{command}/{function}", {"request_id": label})
    assert message.topic == f"faas/response/admin/{command}/{function}"
    assert set(message.body) == ERROR_KEYS | {"function"}
    assert (message.body["status"], message.body["code"]) == ("error", "not_found")
    assert (message.body["request_id"], message.body["node"]) == (label, server.node)
    shown = client.wait_topic("faas/response/error", request_id=label).body
    assert shown == {**message.body, "topic": f"faas/admin/{command}/{function}", "command": command}


# --- rollback --------------------------------------------------------------------------------------------------------


def test_rollback_repeated_goes_back_to_the_first_version_and_no_further(client: Client, function: str) -> None:
    for number in (1, 2, 3):
        assert client.deploy(function, f"def main(): return {number}") == number
    for number in (2, 1):
        message = client.ask(f"faas/admin/rollback/{function}")
        assert message.topic == f"faas/response/admin/rollback/{function}"
        assert set(message.body) == COMMON_KEYS | {"function", "version"}
        assert (message.body["status"], message.body["version"]) == ("ok", number)
        answer = client.invoke(function)
        assert (answer["result"], answer["version"]) == (number, number)
    assert client.request(f"faas/admin/rollback/{function}")["code"] == "not_found"
    assert client.call(function) == 1


def test_version_numbers_are_never_used_again(client: Client, function: str) -> None:
    for number in (1, 2, 3):
        client.deploy(function, f"def main(): return {number}")
    client.request(f"faas/admin/rollback/{function}")
    assert client.deploy(function, "def main(): return 4") == 4
    assert client.request(f"faas/admin/rollback/{function}")["version"] == 2  # 3 was given up, 4 came after 2


def test_rollback_brings_back_environment_and_settings(client: Client, grounds: Grounds, function: str) -> None:
    folder = grounds.new_wheels()
    code = "import probe\ndef main(): return probe.VALUE"
    client.deploy(function, code, str(packages.wheel(folder, "probe", "1.0", "VALUE = 1")), {"timeout_s": 11})
    client.deploy(function, code, str(packages.wheel(folder, "probe", "2.0", "VALUE = 2")), {"timeout_s": 22})
    assert client.call(function) == 2
    client.request(f"faas/admin/rollback/{function}")
    assert client.call(function) == 1
    info = client.request(f"faas/admin/info/{function}")
    assert (info["config"]["timeout_s"], info["requirements"]) == (11, ["probe==1.0"])


# --- who is meant -----------------------------------------------------------------------------------------------------


def test_the_function_may_stand_in_the_payload_instead_of_the_topic(client: Client, function: str) -> None:
    message = client.ask("faas/admin/upload", {"function": function, **upload_body(ECHO)})
    assert message.topic == f"faas/response/admin/upload/{function}"
    assert message.body["status"] == "ok"
    for command in ("info", "logs", "rollback", "delete"):
        message = client.ask(f"faas/admin/{command}", {"function": function})
        assert message.topic == f"faas/response/admin/{command}/{function}"


def test_the_function_may_stand_in_both_places_if_it_is_the_same(client: Client, echo: str) -> None:
    assert client.request(f"faas/admin/info/{echo}", {"function": echo})["status"] == "ok"


@pytest.mark.parametrize("other", ["another", "not/a name", 5, {}, ""])
def test_two_different_functions_in_topic_and_payload_are_refused(client: Client, echo: str, other: Any) -> None:
    message = client.ask(f"faas/admin/delete/{echo}", {"function": other})
    assert message.topic == f"faas/response/admin/delete/{echo}"
    assert message.body["code"] == "bad_request"
    assert client.call(echo) == [[], {}]


@pytest.mark.parametrize("command", ["upload", "delete", "logs", "info", "rollback"])
def test_a_command_without_any_function_is_answered_on_the_error_topic_alone(client: Client, command: str) -> None:
    message = client.ask(f"faas/admin/{command}")
    assert message.topic == "faas/response/error"
    assert set(message.body) == ERROR_KEYS | {"topic", "command"}
    assert (message.body["code"], message.body["command"]) == ("bad_request", command)
    client.request("faas/admin/list")
    assert len(client.answers(message.body["request_id"])) == 1


def test_a_command_for_another_node_is_ignored_without_an_answer(client: Client, server: Server, function: str) -> None:
    client.deploy(function, ECHO)
    for command in ("list", "status", f"delete/{function}", f"info/{function}"):
        client.publish(f"faas/admin/{command}", {"request_id": "foreign", "node": "another"})
    client.publish("faas/admin/upload/x", {"request_id": "foreign", "node": "another", "code_b64": "?"})
    assert client.request(f"faas/admin/info/{function}", {"node": server.node})["status"] == "ok"
    client.settle()
    assert client.answers("foreign") == []


@pytest.mark.parametrize("qos", [0, 1])
def test_the_answer_to_a_command_has_the_qos_of_its_request(client: Client, echo: str, qos: int) -> None:
    assert client.ask("faas/admin/list", qos=qos).qos == qos
    assert client.ask(f"faas/admin/info/{echo}", qos=qos).qos == qos
    assert client.ask("faas/admin/unknown", qos=qos).qos == qos


def test_an_empty_command_gets_a_request_id_from_the_server(client: Client) -> None:
    start = len(client.seen)
    client.publish("faas/admin/list")
    assert client.wait_topic("faas/response/admin/list", start).body["request_id"]


# --- whatever else is going on ---------------------------------------------------------------------------------------


def test_list_and_status_answer_while_all_threads_are_busy_and_an_upload_builds(bench: Bench, function: str) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"workers": 2, "uploads_threads": 1}).start()
    client = bench.client(broker)
    others = [f"{function}-a", f"{function}-b"]
    gates = [gated.deploy(server, client, name) for name in others]
    for name in others:
        client.publish(f"faas/invoke/{name}")
    for gate in gates:
        gate.wait_waiting()
    client.publish(f"faas/admin/upload/{function}", {"request_id": "slow", **upload_body(gated.IMPORT)})
    building = gated.Gate(server, function)
    building.wait_waiting()
    status = client.request("faas/admin/status", timeout_s=5.0)
    assert (status["queue"]["running"], status["workers"]["busy"]) == (2, 3)
    assert client.request("faas/admin/list", timeout_s=5.0)["functions"] == others
    assert client.request(f"faas/admin/info/{others[0]}", timeout_s=5.0)["status"] == "ok"
    for gate in (*gates, building):
        gate.open()
    assert client.answer_to("slow").body["status"] == "ok"


def test_the_log_of_a_flood_of_another_function_hides_nothing(client: Client, echo: str, function: str) -> None:
    client.deploy(function, ECHO)
    client.call(function, "mine")
    for number in range(200):
        client.publish(f"faas/invoke/{echo}", {"args": [number, {"function": function}]})
    client.call(echo)
    assert [record["args"] for record in logs(client, function)] == [["mine"]]


def test_deleting_one_function_keeps_the_history_of_those_that_were_called_with_its_name(
    client: Client, server: Server, function: str
) -> None:
    victim = f"{function}-victim"
    client.deploy(victim, ECHO)
    client.deploy(function, ECHO)
    client.call(function, {"function": victim})
    client.call(victim)
    client.request(f"faas/admin/delete/{victim}")
    assert [record["args"] for record in logs(client, function)] == [[{"function": victim}]]
    assert f'"function":"{victim}","version"' not in Path(server.data_dir / "logs.json").read_text(encoding="utf-8")
