"""Starting, stopping, and brokers that are not there."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.harness import gated
from tests.harness.bench import Bench
from tests.harness.client import new_label, upload_body, wait_presence
from tests.harness.server import Server
from tests.harness.waiting import eventually
from tinyfaas.exits import Exit

ECHO = "def main(*args): return list(args)"


# --- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_running_function_finishes_before_the_server_stops(bench: Bench, number: int) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    gate = gated.deploy(server, client, "slow")
    client.publish("faas/invoke/slow", {"request_id": "running", "args": ["done"]})
    gate.wait_waiting()
    server.signal(number)
    server.log.wait(event="stopping")
    assert client.answers("running") == []
    gate.open()
    assert server.wait() == Exit.OK
    assert client.answer_to("running").body["result"] == "done"
    client.wait_topic(f"faas/node/{server.node}", state="offline")
    order = [each.topic for each in client.seen if each.body.get("state") == "offline" or each.topic.endswith("/slow")]
    assert order[-2:] == ["faas/response/invoke/slow", f"faas/node/{server.node}"]
    lines = (server.data_dir / "logs.json").read_text(encoding="utf-8").splitlines()
    assert any(json.loads(line).get("request_id") == "running" for line in lines)
    assert server.log.records(event="stopped")
    assert server.log.records(level="error") == []


def test_a_function_that_does_not_finish_is_killed_at_the_deadline(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"drain_s": 0.3}).start()
    client = bench.client(broker)
    gate = gated.deploy(server, client, "slow")
    client.publish("faas/invoke/slow", {"request_id": "plain"}, qos=0)
    client.publish("faas/invoke/slow", {"request_id": "kept"})
    gate.wait_waiting()
    assert server.stop() == Exit.OK
    assert server.log.records(event="drain_deadline_passed")
    assert client.answer_to("plain").body["code"] in ("crashed", "unavailable")
    gate.open()
    server.start()
    assert client.answer_to("kept").body["status"] == "success"  # the broker kept it


def test_what_waits_at_a_stop_is_told_or_stays_with_the_broker(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    gate = gated.deploy(server, client, "slow", {"concurrency": 1})
    client.publish("faas/invoke/slow", {"request_id": "running"})
    gate.wait_waiting()
    plain, kept = new_label("plain"), new_label("kept")
    client.publish("faas/invoke/slow", {"request_id": plain}, qos=0)
    client.publish("faas/invoke/slow", {"request_id": kept})
    eventually(lambda: client.request("faas/admin/status")["queue"]["waiting"] == 2, "two requests to wait")
    server.signal(signal.SIGTERM)
    assert client.answer_to(plain).body["code"] == "unavailable"
    gate.open()
    assert server.wait() == Exit.OK
    assert client.answer_to("running").body["status"] == "success"
    assert client.answers(kept) == []
    server.start()
    assert client.answer_to(kept).body["status"] == "success"
    client.settle()
    assert len(client.answers("running")) == 1


def test_a_second_signal_stops_at_once_and_takes_the_workers_along(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    gate = gated.deploy(server, client, "slow")
    client.publish("faas/invoke/slow")
    gate.wait_waiting()
    workers = children_of(server)
    assert workers
    server.signal(signal.SIGTERM)
    server.log.wait(event="stopping")
    server.signal(signal.SIGTERM)
    assert server.wait(5.0) == Exit.FORCED
    eventually(lambda: not any(alive(pid) for pid in workers), "the workers to be gone")
    wait_presence(broker.port, server.node, "offline")  # its will says so


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_no_worker_outlives_the_server(bench: Bench, end: str) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    gate = gated.deploy(server, client, "busy")
    client.deploy("idle", ECHO)
    client.deploy("stubborn", "import time\ndef main(): time.sleep(600)\n")
    client.publish("faas/invoke/busy")
    gate.wait_waiting()
    workers = children_of(server)  # and the fork server, and what boxes them in
    assert len(workers) >= 3 + 1
    gate.open()
    getattr(server, end)()
    eventually(lambda: not any(alive(pid) for pid in workers), "the workers to be gone")


def test_a_stop_waits_for_an_upload_that_builds(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    client.publish("faas/admin/upload/new", {"request_id": "up", **upload_body(gated.IMPORT)})
    gate = gated.Gate(server, "new")
    gate.wait_waiting()
    server.signal(signal.SIGTERM)
    server.log.wait(event="stopping")
    gate.open()
    assert server.wait() == Exit.OK
    assert client.answer_to("up").body["status"] == "ok"


def test_a_stop_without_a_broker_is_a_stop(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    broker.kill()
    server.log.wait(event="disconnected")
    assert server.stop() == Exit.OK


def test_a_server_may_be_stopped_while_it_starts(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker)
    server.spawn()
    server.log.wait(event="starting")
    assert server.stop() == Exit.OK


# --- the broker ------------------------------------------------------------------------------------------------------


def test_a_server_starts_without_a_broker_and_serves_when_it_comes(bench: Bench) -> None:
    broker = bench.broker()
    broker.stop()
    server = bench.server(broker)
    server.spawn()
    refused = server.log.wait(event="broker_unreachable")
    assert (refused["host"], refused["port"]) == ("127.0.0.1", broker.port)
    server.log.wait(event="ready")  # it is, although it waits
    broker.start()
    server.wait_online()
    client = bench.client(broker)
    client.deploy("echo", ECHO)
    assert client.call("echo", 1) == [1]
    assert len(server.log.records(event="broker_unreachable")) <= 4  # said once for each connection, not at each try


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_server_serves_again_when_the_broker_comes_back(bench: Bench, end: str) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    client.deploy("echo", ECHO)
    for number in range(2):
        getattr(broker, end)()
        server.log.wait(event="disconnected", client_id=f"tinyfaas-{server.node}")
        broker.start()
        client.wait_connected()
        wait_presence(broker.port, server.node, "online")
        assert client.call("echo", number) == [number]
        assert client.request("faas/admin/list")["functions"] == ["echo"]
    assert client.request("faas/admin/status")["mqtt"]["connects"] >= 3


def test_what_finishes_while_the_broker_is_away_is_answered_when_it_is_back(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker, lasting=True)
    gate = gated.deploy(server, client, "slow")
    client.publish("faas/invoke/slow", {"request_id": "away", "args": ["kept"]}, wait=True)
    gate.wait_waiting()
    broker.stop()
    server.log.wait(event="disconnected", client_id=f"tinyfaas-{server.node}")
    gate.open()
    server.log.wait(event="invocation_done", request_id="away")
    broker.start()
    client.wait_connected()
    client.answer_to("away")
    client.settle()
    assert {each.body["result"] for each in client.answers("away")} == {"kept"}
    assert gate.waiting() == 1  # it ran once


def test_a_server_that_is_refused_says_why_and_tries_again(bench: Bench) -> None:
    passwords = bench.grounds.new_folder("passwords") / "passwords"
    passwords.write_text("", encoding="utf-8")
    passwords.chmod(0o644)
    broker = bench.broker(more=f"password_file {passwords}\nallow_anonymous false\n")
    server = bench.server(broker, {"mqtt_username": "me", "mqtt_password": "hunter2"})
    server.spawn()
    refused = server.log.wait(event="broker_unreachable")
    assert "ot authori" in refused["error"]
    assert server.stop() == Exit.OK
    assert "hunter2" not in server.log.text()


# --- one server for each home ----------------------------------------------------------------------------------------


def test_a_second_server_on_the_same_data_is_refused(bench: Bench) -> None:
    broker = bench.broker()
    first = bench.server(broker).start()
    client = bench.client(broker)
    client.deploy("echo", ECHO)
    client.call("echo")
    second = bench.server(broker, home=first.home)
    second.spawn()
    assert second.wait() == Exit.LOCKED
    said = second.log.text().splitlines()
    assert len(said) == 1
    assert str(first.data_dir) in said[0]
    assert str(first.pid) in said[0]
    assert client.call("echo", "still") == ["still"]


def test_a_killed_server_leaves_no_lock_even_if_a_process_of_a_function_lives_on(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    client.deploy(
        "parent",
        """
        import subprocess
        def main():
            return subprocess.Popen(["sleep", "600"], start_new_session=True, close_fds=False).pid
        """,
    )
    survivor = client.call("parent")
    server.kill()
    assert alive(survivor)
    server.start()
    assert client.request("faas/admin/list")["functions"] == ["parent"]
    os.kill(survivor, signal.SIGKILL)


# --- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("mqtt_port", "0", "TINYFAAS_MQTT_PORT: 0 is not an integer from 1 to 65535"),
        ("mqtt_port", "many", "TINYFAAS_MQTT_PORT: 'many' is not an integer"),
        ("mqtt_colour", "red", "TINYFAAS_MQTT_COLOUR: no such setting"),
        ("workers", "-1", "TINYFAAS_WORKERS: -1 is not an integer from 0"),
        ("mqtt_tls", "perhaps", "TINYFAAS_MQTT_TLS: 'perhaps' is not true or false"),
        ("limits_timeout_s", "nan", "TINYFAAS_LIMITS_TIMEOUT_S"),
        ("node", "pi 01", "TINYFAAS_NODE"),
        ("log_level", "loud", "TINYFAAS_LOG_LEVEL: 'loud' is not one of \"debug\""),
        ("mqtt_password_file", "/no/such/file", "mqtt.password_file: /no/such/file"),
        ("mqtt_base_topic", "a/#", "TINYFAAS_MQTT_BASE_TOPIC"),
    ],
)
def test_a_bad_setting_ends_the_start_with_one_line(bench: Bench, setting: str, value: str, said: str) -> None:
    server = bench.server(bench.idle_broker())
    server.spawn(**{setting: value})
    assert server.wait() == Exit.CONFIG
    lines = server.log.text().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not server.data_dir.exists()


def test_bad_tls_files_end_the_start_with_one_line(bench: Bench) -> None:
    server = bench.server(bench.idle_broker())
    server.spawn(mqtt_tls="true", mqtt_tls_ca_file="/no/such/ca.pem")
    assert server.wait() == Exit.CONFIG
    lines = server.log.text().splitlines()
    assert len(lines) == 1
    assert "tls_ca_file" in lines[0]


def test_a_folder_that_can_not_be_made_ends_the_start_with_one_line(bench: Bench) -> None:
    server = bench.server(bench.idle_broker())
    server.spawn(data_dir="/proc/tinyfaas")
    assert server.wait() == Exit.CANT_CREATE
    lines = server.log.text().splitlines()
    assert len(lines) == 1
    assert "/proc/tinyfaas" in lines[0]


def test_other_topics_than_the_usual_ones_can_be_configured(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"mqtt_base_topic": "home/faas", "mqtt_response_topic": "answers"})
    server.spawn()
    client = bench.client(broker, topics=("home/#", "answers/#"))
    client.wait_topic(f"home/faas/node/{server.node}", state="online")
    client.publish("home/faas/admin/upload/echo", upload_body(ECHO))
    assert client.wait_topic("answers/admin/upload/echo").body["status"] == "ok"
    client.publish("home/faas/invoke/echo", {"args": [1]})
    assert client.wait_topic("answers/invoke/echo").body["result"] == [1]
    client.publish("home/faas/admin/nonsense")
    assert client.wait_topic("answers/error").body["command"] == "nonsense"


def children_of(server: Server) -> list[int]:
    """The process ids of a server's workers."""
    found = []
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text(encoding="ascii").split()]
    return found


def alive(pid: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
