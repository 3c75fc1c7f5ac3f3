"""Results that go on: to a function's output topic, for changes only where it says so, and never in a circle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.bench import Bench
from tests.harness.client import Client, new_label
from tests.harness.events import records, results, wait_records
from tests.harness.server import Server
from tests.harness.waiting import eventually


@pytest.fixture
def house() -> str:
    """The first level of topics that no other test uses."""
    return new_label("house")


@pytest.fixture
def listener(server: Server, house: str) -> Iterator[Client]:
    """A client of the shared server that hears its house too."""
    with Client(server.broker.port, topics=("faas/#", "reply/#", f"{house}/#")) as client:
        yield client


def heard(client: Client, topic: str, start: int = 0) -> list[bytes]:
    """The payloads that have come on a topic."""
    return [message.payload for message in client.seen[start:] if message.topic == topic]


def test_a_result_is_published_as_plain_json_besides_the_answer(listener: Client, function: str, house: str) -> None:
    listener.deploy(function, "def main(event): return event", config={
        "trigger": [{"topic": f"{house}/in"}], "output": {"topic": f"{house}/out"},
    })  # fmt: skip
    answer = listener.invoke(function, {"celsius": 21.5, "name": "Küche"})
    assert answer["result"] == {"celsius": 21.5, "name": "Küche"}
    message = listener.wait_topic(f"{house}/out", celsius=21.5)
    assert message.payload == '{"celsius":21.5,"name":"Küche"}'.encode()
    assert (message.qos, message.content_type) == (1, "application/json")
    listener.publish(f"{house}/in", "5")
    message = listener.wait(lambda each: each.topic == f"{house}/out" and b'"payload":5' in each.payload, "an output")
    assert message.body["topic"] == f"{house}/in"


def test_none_and_errors_are_not_published(listener: Client, function: str, house: str) -> None:
    code = "def main(value=None): return value if value != 'bad' else 1 / 0"
    listener.deploy(function, code, config={"output": {"topic": f"{house}/out", "qos": 0}})
    assert listener.invoke(function)["result"] is None
    assert listener.invoke(function, "bad")["code"] == "function_error"
    assert listener.call(function, False) is False
    listener.settle()
    assert heard(listener, f"{house}/out") == [b"false"]


def test_a_retained_output_is_there_for_who_comes_later(
    listener: Client, server: Server, function: str, house: str
) -> None:
    listener.deploy(function, "def main(value): return value",
                    config={"output": {"topic": f"{house}/out", "retain": True}})  # fmt: skip
    listener.call(function, 7)
    with Client(server.broker.port, topics=(f"{house}/#",)) as later:
        assert later.wait(lambda message: message.topic == f"{house}/out", "what is retained").payload == b"7"


def test_on_change_only_what_is_new_is_published_and_a_restart_counts_as_a_change(
    bench: Bench, function: str, house: str
) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker, topics=("faas/#", f"{house}/#"))
    client.deploy(function, "def main(value): return value",
                  config={"output": {"topic": f"{house}/out", "on": "change"}})  # fmt: skip
    for value in (1, 1, 2, 2, None, 2, 1):
        client.call(function, value)
    client.settle()
    assert heard(client, f"{house}/out") == [b"1", b"2", b"1"]
    server.restart()
    for value in (1, 1):
        client.call(function, value)
    client.settle()
    assert heard(client, f"{house}/out") == [b"1", b"2", b"1", b"1"]


def test_an_output_is_there_although_the_broker_was_away_when_it_was_made(
    bench: Bench, function: str, house: str
) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker, lasting=True, topics=("faas/#", f"{house}/#"))
    code = """
        import pathlib, time
        def main(event):
            pathlib.Path("begun").touch()
            while not pathlib.Path("go").exists():
                time.sleep(0.01)
            return event["payload"]
    """
    client.deploy(function, code, config={
        "trigger": [{"topic": f"{house}/in"}], "output": {"topic": f"{house}/out"},
    })  # fmt: skip
    client.publish(f"{house}/in", "7")
    state = server.functions_dir / function / "state"
    eventually((state / "begun").exists, "the call to begin")
    broker.stop()
    server.log.wait(event="disconnected")
    (state / "go").touch()
    server.log.wait(event="invocation_done")
    broker.start()
    client.wait_connected()
    assert client.wait(lambda message: message.topic == f"{house}/out", "the output").payload == b"7"
    eventually(lambda: client.request("faas/admin/status")["queue"]["held"] == 0, "the event to be acknowledged")
    assert results(client, function, 1) == [7]


def test_a_function_that_would_call_itself_is_refused(client: Client, function: str, house: str) -> None:
    config = {"trigger": [{"topic": f"{house}/+"}], "output": {"topic": f"{house}/out"}}
    answer = client.upload(function, "def main(event): return event", config=config)
    assert answer["code"] == "bad_request"
    assert answer["error"].endswith(f"is matched by {house}/+: the function would call itself")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_loop_over_functions_is_broken_and_said_to_be(bench: Bench, house: str, protocol: str) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"mqtt_protocol": protocol}).start()
    client = bench.client(broker, topics=("faas/#", f"{house}/#"))
    hot, cold = new_label("hot"), new_label("cold")
    code = "def main(event): return event['payload'] + 1"
    client.deploy(hot, code, config={"trigger": [{"topic": f"{house}/a"}], "output": {"topic": f"{house}/b"}})
    client.deploy(cold, code, config={"trigger": [{"topic": f"{house}/b"}], "output": {"topic": f"{house}/a"}})
    client.publish(f"{house}/a", "1")
    ran, broken = wait_records(client, hot, 2)
    assert ran["result"] == 2
    chain = [f"{server.node}/{hot}", f"{server.node}/{cold}"]
    assert (broken["code"], broken["trigger"], broken["chain"]) == ("forbidden", f"{house}/a", chain)
    assert broken["error"] == f"a loop, broken here: {' → '.join([*chain, chain[0]])}"
    told = client.wait_topic("faas/response/error", function=hot).body
    assert (told["command"], told["chain"]) == ("trigger", chain)
    assert results(client, cold, 1) == [3]
    assert client.request("faas/admin/status")["queue"]["triggers"]["loops_broken"] == 1
    client.publish(f"{house}/b", "10")  # each message from outside is a new beginning
    assert [record["status"] for record in wait_records(client, cold, 3)] == ["success", "success", "error"]
    assert len(records(client, hot)) == 3


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_loop_by_way_of_calls_answers_and_errors_is_broken_too(bench: Bench, protocol: str) -> None:
    broker = bench.broker()
    bench.server(broker, {"mqtt_protocol": protocol}).start()
    listener = bench.client(broker)
    caller, failing = new_label("caller"), new_label("failing")
    listener.deploy(failing, "def main(**event): return 1 / 0")
    listener.deploy(caller, "def main(event): return {'kwargs': {'event': 1}}", config={
        "trigger": [{"topic": "faas/response/error"}, {"topic": f"faas/response/invoke/{failing}"}],
        "output": {"topic": f"faas/invoke/{failing}"},
    })  # fmt: skip
    listener.publish(f"faas/invoke/{failing}", {"request_id": "outside"})
    eventually(lambda: [each for each in records(listener, caller) if each["status"] == "error"], "the end of the loop")
    eventually(lambda: listener.request("faas/admin/status")["queue"]["held"] == 0, "quiet")
    assert len(records(listener, failing)) < 10
    assert len(records(listener, caller)) < 20
