"""Messages that are no requests call functions: exactly those whose filters match, once, with what came."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.harness.bench import Bench
from tests.harness.client import Client, new_label
from tests.harness.events import TELLING, records, results, wait_records
from tests.harness.load import COUNTING, runs_of
from tests.harness.server import Server
from tests.harness.waiting import eventually


@pytest.fixture
def house() -> str:
    """The first level of topics that no other test uses."""
    return new_label("house")


@pytest.fixture(scope="module", params=["5", "3.1.1"])
def spoken(shared_bench: Bench, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of a server that speaks this version of MQTT."""
    broker = shared_bench.broker()
    server = shared_bench.server(broker, {"mqtt_protocol": request.param, "workers": 3}).start()
    with Client(broker.port) as client:
        yield client
    server.close()


def test_main_gets_what_came_and_the_history_says_why(client: Client, function: str, house: str) -> None:
    client.deploy(function, TELLING, config={"concurrency": 1, "trigger": [
        {"topic": f"{house}/+/temperature"},
        {"topic": f"{house}/text/#", "payload": "text", "qos": 0},
        {"topic": f"{house}/picture", "payload": "bytes"},
    ]})  # fmt: skip
    before = datetime.now(UTC)
    client.publish(f"{house}/kitchen/temperature", '{"celsius": 21.5,\n "ok": true}')
    (event,) = results(client, function, 1)
    received = datetime.fromisoformat(event.pop("received"))
    assert abs((received - before).total_seconds()) < 60
    assert event == {
        "topic": f"{house}/kitchen/temperature", "payload": {"celsius": 21.5, "ok": True}, "retain": False, "qos": 1,
        "wildcards": ["kitchen"],
    }  # fmt: skip
    client.publish(f"{house}/text/a/b", "grüße")
    client.publish(f"{house}/picture", bytes(range(256)))
    text, picture = [record["result"] for record in wait_records(client, function, 3)[1:]]
    assert (text["payload"], text["wildcards"], text["qos"]) == ("grüße", ["a/b"], 0)
    assert picture["digest"] == hashlib.sha256(bytes(range(256))).hexdigest()
    first, *_, last = records(client, function)
    assert first["trigger"] == f"{house}/kitchen/temperature"
    assert first["args"][0]["payload"] == {"celsius": 21.5, "ok": True}
    assert last["trigger"] == f"{house}/picture"
    assert not {"delivery", "deliveries", "partly"} & first.keys()
    client.settle()
    assert [message for message in client.seen if message.topic == f"faas/response/invoke/{function}"] == []


def test_any_json_is_a_payload(client: Client, function: str, house: str) -> None:
    client.deploy(function, "def main(event): return event['payload']",
                  config={"concurrency": 1, "trigger": [{"topic": house}]})  # fmt: skip
    for payload in ("21.5", "null", '"on"', "[1, 2]", "false"):
        client.publish(house, payload)
    assert results(client, function, 5) == [21.5, None, "on", [1, 2], False]


def test_a_payload_that_is_not_what_the_trigger_says_is_recorded_and_not_run(
    client: Client, server: Server, function: str, house: str
) -> None:
    client.deploy(function, COUNTING, config={"max_payload_bytes": 100, "concurrency": 1, "trigger": [
        {"topic": f"{house}/json"}, {"topic": f"{house}/text", "payload": "text"},
    ]})  # fmt: skip
    start = len(client.seen)
    for topic, payload in (
        ("json", b"{"),
        ("json", b""),
        ("json", b"NaN"),
        ("json", b"[1e999]"),
        ("text", b"\xff"),
        ("text", b"x" * 101),
    ):
        client.publish(f"{house}/{topic}", payload)
    found = wait_records(client, function, 6)
    assert {record["code"] for record in found} == {"bad_request"}
    assert [record["error"].partition(":")[0] for record in found] == [
        "the payload is not JSON", "the payload is not JSON", "the payload is not JSON",
        "the payload holds a number too large for a float, or is nested too deeply", "the payload is not UTF-8",
        "the payload has 101 bytes, 100 are allowed",
    ]  # fmt: skip
    told = client.wait_topic("faas/response/error", start, function=function).body
    assert (told["topic"], told["command"], told["code"]) == (f"{house}/json", "trigger", "bad_request")
    assert not (server.functions_dir / function / "state" / "runs").exists()


def test_what_main_raises_is_recorded_and_told(client: Client, function: str, house: str) -> None:
    client.deploy(function, "def main(event): raise ValueError(event['topic'])", config={"trigger": [{"topic": house}]})
    start = len(client.seen)
    client.publish(house, "1")
    (record,) = wait_records(client, function, 1)
    assert (record["code"], record["error"], record["trigger"]) == ("function_error", f"ValueError: {house}", house)
    told = client.wait_topic("faas/response/error", start, function=function).body
    assert (told["id"], told["command"], told["topic"]) == (record["id"], "trigger", house)


def test_each_function_is_called_once_by_each_message_that_one_of_its_filters_matches(
    spoken: Client, house: str
) -> None:
    filters = {
        "several": [f"{house}/+/t", f"{house}/kitchen/#", f"{house}/kitchen/t"],
        "same": [f"{house}/+/t"],
        "all": [f"{house}/#"],
        "other": [f"{house}/+/humidity", f"$share/readers/{house}/cellar/t"],
        "none": [f"{house}/kitchen"],
    }
    names = {kind: new_label(kind) for kind in filters}
    for kind, wanted in filters.items():
        config = {"trigger": [{"topic": each, "qos": at % 2} for at, each in enumerate(wanted)]}
        spoken.deploy(names[kind], "def main(event): return [event['topic'].partition('/')[2], event['payload']]",
                      config=config)  # fmt: skip
    sent = [("kitchen/t", 1, 1), ("kitchen/t", 0, 2), ("cellar/t", 1, 3), ("attic/humidity", 1, 4), ("kitchen", 1, 5)]
    for topic, qos, value in sent:
        spoken.publish(f"{house}/{topic}", str(value), qos=qos)
    expected = {"several": {1, 2, 3, 5}, "same": {1, 2, 3}, "all": {1, 2, 3, 4, 5}, "other": {3, 4}, "none": {5}}
    for kind, values in expected.items():
        found = {tuple(each) for each in results(spoken, names[kind], len(values))}
        assert found == {(topic, value) for topic, _, value in sent if value in values}, kind


def test_a_change_of_triggers_counts_from_the_answer_to_the_upload(client: Client, function: str, house: str) -> None:
    code = "def main(event): return event['payload']"
    client.deploy(function, code, config={"trigger": [{"topic": f"{house}/old"}]})
    client.publish(f"{house}/old", "1")
    assert results(client, function, 1) == [1]
    client.deploy(function, code, config={"trigger": [{"topic": f"{house}/new"}]})
    client.publish(f"{house}/old", "2")
    client.publish(f"{house}/new", "3")
    assert results(client, function, 2) == [1, 3]
    assert client.request(f"faas/admin/rollback/{function}")["status"] == "ok"
    client.publish(f"{house}/new", "4")
    client.publish(f"{house}/old", "5")
    assert results(client, function, 3) == [1, 3, 5]
    assert client.request(f"faas/admin/delete/{function}")["status"] == "deleted"
    client.publish(f"{house}/old", "6")
    client.deploy(function, code)
    client.publish(f"{house}/old", "7")
    client.settle()
    assert client.invoke(function, {"payload": 8})["result"] == 8
    assert [record["result"] for record in records(client, function)] == [8]


def test_an_upload_whose_triggers_cant_be_is_refused(client: Client, function: str, house: str) -> None:
    answer = client.upload(function, TELLING, config={"trigger": [{"topic": house}, {"topic": "a/#/b"}]})
    assert answer["code"] == "bad_request"
    assert answer["error"].startswith("config.trigger[1].topic: 'a/#/b' is not a topic filter of MQTT")
    answer = client.upload(function, TELLING, config={"trigger": [{"topic": "faas/invoke/+"}]})
    assert answer["code"] == "bad_request"
    assert answer["error"].startswith("config.trigger[0].topic: 'faas/invoke/+' may not match faas/invoke/#")


def test_what_was_retained_calls_only_who_asks_for_it(client: Client, house: str) -> None:
    wanting, living = new_label("wanting"), new_label("living")
    code = "def main(event): return [event['payload'], event['retain']]"
    client.publish(f"{house}/a", "1", retain=True, wait=True)
    client.publish(f"{house}/b", "2", retain=True, wait=True)
    client.deploy(living, code, config={"trigger": [{"topic": f"{house}/+"}]})
    client.deploy(wanting, code, config={"trigger": [{"topic": f"{house}/#", "retained": True}]})
    assert sorted(results(client, wanting, 2)) == [[1, True], [2, True]]
    client.publish(f"{house}/a", "3", retain=True)
    assert [3, False] in results(client, wanting, 3)
    assert results(client, living, 1) == [[3, False]]
    client.deploy(wanting, code, config={"trigger": [{"topic": f"{house}/#", "retained": True}], "timeout_s": 5})
    client.publish(f"{house}/a", "4")
    assert results(client, living, 2)[1] == [4, False]
    assert len(wait_records(client, wanting, 4)) == 4


def test_what_was_retained_is_shown_to_a_function_that_comes_later_and_to_no_other(spoken: Client, house: str) -> None:
    first, second, third = (new_label("function") for _ in range(3))
    code = "def main(event): return [event['payload'], event['retain']]"
    config = {"trigger": [{"topic": f"{house}/+", "retained": True}]}
    spoken.deploy(first, code, config=config)
    spoken.publish(f"{house}/a", "1", retain=True, wait=True)
    assert results(spoken, first, 1) == [[1, False]]
    spoken.deploy(second, code, config=config)
    assert results(spoken, second, 1) == [[1, True]]
    spoken.deploy(third, code, config=config)
    assert results(spoken, third, 1) == [[1, True]]
    spoken.publish(f"{house}/b", "2")
    for function in (first, second, third):
        assert results(spoken, function, 2)[1] == [2, False]


def test_a_picture_of_megabytes_reaches_main_as_bytes(client: Client, function: str, house: str) -> None:
    client.deploy(function, TELLING, config={
        "max_payload_bytes": 8_000_000, "memory_mb": 256, "trigger": [{"topic": house, "payload": "bytes"}],
    })  # fmt: skip
    picture = os.urandom(5_000_000)
    start_s = time.monotonic()
    client.publish(house, picture)
    (event,) = results(client, function, 1)
    print(f"5 MB from publish to record: {time.monotonic() - start_s:.3f} s")
    assert event["digest"] == hashlib.sha256(picture).hexdigest()


def test_events_given_up_are_dead_letters_and_run_again_as_they_came(client: Client, function: str, house: str) -> None:
    code = """
        import os, pathlib
        def main(event):
            if not pathlib.Path("well").exists():
                os._exit(3)
            return [event["topic"], event["payload"] if isinstance(event["payload"], str) else list(event["payload"])]
    """
    config = {"concurrency": 1, "retry": {"attempts": 2, "backoff_s": 0}, "trigger": [
        {"topic": f"{house}/text", "payload": "text"}, {"topic": f"{house}/bytes", "payload": "bytes"},
    ]}  # fmt: skip
    client.deploy(function, code, config=config)
    client.publish(f"{house}/text", "a")
    client.publish(f"{house}/bytes", b"\0\xff")
    found = wait_records(client, function, 2)
    assert [(record["code"], record["attempts"]) for record in found] == [("crashed", 2)] * 2
    letter = client.wait(lambda message: message.topic == f"faas/deadletter/{function}", "a dead letter").body
    assert letter["payload"]["args"][0]["topic"] == f"{house}/text"
    client.deploy(function, code.replace('"well"', '"/"'), config=config)
    assert client.request(f"faas/admin/redrive/{function}")["redriven"] == 2
    again = wait_records(client, function, 4)[2:]
    assert sorted(json.dumps(record["result"]) for record in again) == [
        json.dumps([f"{house}/bytes", [0, 255]]), json.dumps([f"{house}/text", "a"]),
    ]  # fmt: skip


def test_what_is_published_at_qos_1_while_the_server_is_away_runs_when_it_is_back(
    bench: Bench, function: str, house: str
) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    client.deploy(function, COUNTING.replace("number)", "event)").replace("number", "event['payload']").replace(
        "main(event['payload'])", "main(event)"), config={"trigger": [{"topic": f"{house}/#"}]})  # fmt: skip
    client.publish(f"{house}/a", "1")
    wait_records(client, function, 1)
    server.stop()
    client.publish(f"{house}/a", "2", wait=True)
    server.start()
    wait_records(client, function, 2)
    server.kill()
    client.publish(f"{house}/a", "3", wait=True)
    server.start()
    wait_records(client, function, 3)
    assert runs_of(server, function) == {1: 1, 2: 1, 3: 1}


def test_over_a_crash_no_function_runs_again_that_had_its_outcome(bench: Bench, house: str) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"workers": 3}).start()
    client = bench.client(broker, topics=("faas/#", "reply/#", f"{house}/#"))
    quick, slow = new_label("quick"), new_label("slow")
    counting = """
        import os, time, pathlib
        def main(event):
            with open("runs", "a") as file:
                file.write(f"{event['payload']}\\n")
            while SLOW and not pathlib.Path("go").exists():
                time.sleep(0.01)
            return event["payload"]
    """
    for name, flag in ((quick, "False"), (slow, "True")):
        client.deploy(name, counting.replace("SLOW", flag), config={
            "trigger": [{"topic": f"{house}/in"}], "output": {"topic": f"{house}/out/{name}"},
        })  # fmt: skip
    client.publish(f"{house}/in", "7")
    wait_records(client, quick, 1)
    runs = server.functions_dir / slow / "state" / "runs"
    eventually(lambda: runs.exists() and runs.read_text(), "the slow one to run")
    server.kill()
    go = server.functions_dir / slow / "state" / "go"
    go.touch()
    server.start()
    wait_records(client, slow, 1)
    assert runs_of(server, quick) == {7: 1}
    assert runs_of(server, slow) == {7: 2}  # it was cut short
    eventually(lambda: client.request("faas/admin/status")["queue"]["held"] == 0, "everything to be acknowledged")
    wait_records(client, quick, 1)
    assert {message.topic for message in client.seen if message.topic.startswith(f"{house}/out/")} == {
        f"{house}/out/{quick}", f"{house}/out/{slow}",
    }  # fmt: skip
    server.restart()
    client.settle()
    assert len(records(client, slow)) == len(records(client, quick)) == 1


def test_a_message_that_has_expired_when_its_turn_comes_is_not_run(client: Client, function: str, house: str) -> None:
    code = """
        import pathlib, time
        def main(event):
            while not pathlib.Path("go").exists() and event["payload"] == 1:
                time.sleep(0.01)
            pathlib.Path("go").touch()
            return event["payload"]
    """
    client.deploy(function, code, config={
        "concurrency": 1, "timeout_s": 1.5, "trigger": [{"topic": house, "qos": 1}],
    })  # fmt: skip
    client.publish(house, "1")
    client.publish(house, "2", MessageExpiryInterval=1)
    client.publish(house, "3", MessageExpiryInterval=60)
    found = wait_records(client, function, 3)
    assert [record.get("code", record.get("result")) for record in found] == ["timeout", "expired", 3]


def test_qos_0_beyond_the_bounds_is_dropped_and_said_to_be(bench: Bench, function: str, house: str) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"queue_max_requests": 5}).start()
    client = bench.client(broker)
    client.deploy(function, "import time\ndef main(event): time.sleep(0.2)",
                  config={"concurrency": 1, "trigger": [{"topic": house}]})  # fmt: skip
    start = len(client.seen)
    for value in range(20):
        client.publish(house, str(value), qos=0)
    server.log.wait(event="queue_full")
    eventually(lambda: client.request("faas/admin/status")["queue"]["held"] == 0, "what was taken to be run")
    refused = client.request("faas/admin/status")["queue"]["overloaded"]
    assert refused > 0
    assert len(records(client, function)) == 20 - refused
    assert [each for each in client.seen[start:] if each.topic == "faas/response/error"] == []


def test_the_nodes_of_a_group_share_what_triggers_a_function(bench: Bench, house: str) -> None:
    broker = bench.broker()
    here, there = [bench.server(broker, {"node_group": "farm"}).start() for _ in range(2)]
    client = bench.client(broker)
    both, alone = new_label("both"), new_label("alone")
    config = {"trigger": [{"topic": f"{house}/#"}, {"topic": f"{house}/+"}]}
    for function, servers in ((both, [here, there]), (alone, [there])):
        for server in servers:
            answer = client.upload(
                function, "def main(event): return event['payload']", config=config, node=server.node
            )
            assert answer["status"] == "ok", answer
    for value in range(20):
        client.publish(f"{house}/a", str(value))

    def ran(function: str, server: Server) -> list[int]:
        answer = client.request(f"faas/admin/logs/{function}", {"node": server.node})
        return [record["result"] for record in answer["logs"]]

    eventually(lambda: len(ran(both, here)) + len(ran(both, there)) >= 20, "the shared ones")
    eventually(lambda: len(ran(alone, there)) >= 20, "the others")
    assert sorted(ran(both, here) + ran(both, there)) == list(range(20))
    assert ran(alone, there) == list(range(20))
    assert ran(both, here)
    assert ran(both, there)
    assert here.stop() == 0
    for value in range(20, 30):
        client.publish(f"{house}/a", str(value))
    eventually(lambda: set(range(20, 30)) <= set(ran(both, there)), "all of it at the one that is left")
