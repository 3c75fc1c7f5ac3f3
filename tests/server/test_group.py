"""Servers of one group share the invocations out; what the broker gives to one of them, it alone answers."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.harness.bench import Bench
from tests.harness.client import new_label, wait_presence
from tests.harness.group import GROUP, call_many, deploy, nodes, shares
from tests.harness.load import COUNTING, Load
from tests.harness.tally import tally, wait_answered
from tests.harness.waiting import eventually

ECHO = "def main(number=0): return number"


@pytest.mark.parametrize("v5", [True, False], ids=["5", "3.1.1"])
def test_each_call_is_answered_once_and_the_nodes_take_turns(bench: Bench, function: str, v5: bool) -> None:
    broker = bench.broker()
    servers = nodes(bench, broker, 2)
    client = bench.client(broker, v5=v5)
    deploy(client, servers, function, ECHO)
    answers = call_many(client, function, 100)
    assert {len(messages) for messages in answers} == {1}
    assert shares(answers) == {server.node: 50 for server in servers}


def test_a_function_is_called_where_it_is_and_nowhere_else(bench: Bench, function: str) -> None:
    broker = bench.broker()
    here, there = nodes(bench, broker, 2)
    client = bench.client(broker)
    deploy(client, [here], function, ECHO)
    assert set(shares(call_many(client, function, 20))) == {here.node}
    deploy(client, [there], function, ECHO)
    assert set(shares(call_many(client, function, 20))) == {here.node, there.node}
    assert client.request(f"faas/admin/delete/{function}", {"node": here.node})["status"] == "deleted"
    answers = call_many(client, function, 20)
    assert set(shares(answers)) == {there.node}
    assert {messages[0].body["status"] for messages in answers} == {"success"}


def test_nobody_answers_for_a_function_that_no_node_has(bench: Bench, function: str) -> None:
    broker = bench.broker()
    servers = nodes(bench, broker, 2)
    client = bench.client(broker)
    deploy(client, servers, function, ECHO)
    client.publish("faas/invoke/nowhere", {"request_id": "unheard"}, wait=True)
    assert client.call(function, 1) == 1
    client.settle()
    assert client.answers("unheard") == []


def test_what_a_node_was_given_before_a_delete_it_runs(bench: Bench, function: str) -> None:
    broker = bench.broker()
    servers = nodes(bench, broker, 2)
    client = bench.client(broker)
    deploy(client, servers, function, "import time\ndef main(number): time.sleep(0.1)", {"concurrency": 1})
    for number in range(40):
        client.publish(f"faas/invoke/{function}", {"args": [number], "request_id": f"held-{number}"})
    deleted = client.request(f"faas/admin/delete/{function}", {"node": servers[0].node})
    assert deleted["status"] == "deleted"
    answers = [client.answer_to(f"held-{number}").body for number in range(40)]
    assert {answer["status"] for answer in answers} == {"success"}
    assert sum(answer["node"] == servers[0].node for answer in answers) == 20


def test_a_request_can_name_no_other_node_than_the_one_the_broker_chose(bench: Bench, function: str) -> None:
    broker = bench.broker()
    servers = nodes(bench, broker, 2)
    client = bench.client(broker)
    deploy(client, servers, function, ECHO)
    answers = [client.request(f"faas/invoke/{function}", {"node": servers[0].node}) for _ in range(10)]
    by_node = {(answer["node"], answer["status"], answer.get("code")) for answer in answers}
    assert by_node == {(servers[0].node, "success", None), (servers[1].node, "error", "bad_request")}


def test_presence_and_status_tell_the_group_and_what_is_served(bench: Bench, function: str) -> None:
    broker = bench.broker()
    (server,) = nodes(bench, broker, 1)
    client = bench.client(broker)
    topic = f"faas/node/{server.node}"
    client.wait_topic(topic, state="online", group="kitchen", functions=[])
    deploy(client, [server], function, ECHO)
    client.wait_topic(topic, state="online", functions=[function])
    status = client.request("faas/admin/status")["mqtt"]
    assert (status["group"], status["shares"]) == ("kitchen", 1)
    start = len(client.seen)
    client.request(f"faas/admin/delete/{function}")
    client.wait_topic(topic, start, state="online", functions=[])


def test_joining_renaming_and_leaving_a_group_ends_what_was_subscribed_before(bench: Bench, function: str) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    client.deploy(function, ECHO)
    for group in ("kitchen", "cellar", None):
        assert server.stop() == 0
        if group == "kitchen":  # a server that wrote nothing down, before there were groups
            (server.data_dir / "subscriptions.json").unlink()
        server.start(node_group=group)
        assert {len(messages) for messages in call_many(client, function, 10)} == {1}, group
    assert client.invoke("nowhere")["code"] == "not_found"


def test_a_node_that_was_killed_is_in_the_group_again_when_it_is_back(bench: Bench, function: str) -> None:
    broker = bench.broker()
    servers = nodes(bench, broker, 2)
    client = bench.client(broker)
    deploy(client, servers, function, ECHO)
    servers[0].kill()
    labels = [f"while-away-{number}" for number in range(10)]
    for label in labels:
        client.publish(f"faas/invoke/{function}", {"request_id": label}, wait=True)
    servers[0].start()
    answered_by = {client.answer_to(label).body["node"] for label in labels}
    assert answered_by == {server.node for server in servers}  # its share waited for it
    assert set(shares(call_many(client, function, 20))) == {server.node for server in servers}


def test_a_node_that_is_stopped_leaves_its_share_to_the_others(bench: Bench, function: str) -> None:
    broker = bench.broker()
    staying, leaving = nodes(bench, broker, 2)
    client = bench.client(broker, topics=("faas/response/invoke/#",), lasting=True)
    deploy(bench.client(broker), [staying, leaving], function, COUNTING)
    load = Load(client, function)
    load.start()
    eventually(lambda: load.answered() > 100, "the load to flow")
    assert leaving.stop() == 0
    left = leaving.log.records(event="left_to_group")
    load.stop()
    wait_answered(load)  # all of them, while it is away
    counts = tally("a node of a group stopped", load)
    counts.say()
    assert [each["functions"] for each in left] == [[function]]
    assert (counts.lost, counts.twice) == (set(), 0)
    leaving.start()
    admin = bench.client(broker)
    assert set(shares(call_many(admin, function, 20))) == {staying.node, leaving.node}


def test_what_only_the_stopped_node_serves_waits_for_its_return(bench: Bench, function: str) -> None:
    broker = bench.broker()
    staying, leaving = nodes(bench, broker, 2)
    client = bench.client(broker)
    deploy(client, [leaving], function, ECHO)
    assert leaving.stop() == 0
    client.publish(f"faas/invoke/{function}", {"request_id": "patient"}, wait=True)
    leaving.start()
    assert client.answer_to("patient").body["node"] == leaving.node
    assert staying.stop() == 0


def test_of_two_nodes_that_stop_at_the_same_time_one_keeps_what_comes(bench: Bench, function: str) -> None:
    broker = bench.broker()
    servers = nodes(bench, broker, 2)
    client = bench.client(broker)
    deploy(client, servers, function, ECHO)
    for server in servers:
        server.signal(signal.SIGTERM)
    assert [server.wait() for server in servers] == [0, 0]
    labels = [f"patient-{number}" for number in range(4)]
    for label in labels:
        client.publish(f"faas/invoke/{function}", {"request_id": label}, wait=True)
    for server in servers:
        server.start()
    assert {client.answer_to(label).body["status"] for label in labels} == {"success"}


def test_after_the_broker_was_restarted_the_group_is_there_again(bench: Bench, function: str) -> None:
    broker = bench.broker()
    servers = nodes(bench, broker, 2)
    client = bench.client(broker)
    deploy(client, servers, function, ECHO)
    broker.stop()
    broker.start()
    for server in servers:
        wait_presence(broker.port, server.node, "online")
        eventually(lambda server=server: len(server.log.records(event="connected")) == 4, "both connections")  # type: ignore[misc]
    client.wait_connected()
    assert set(shares(call_many(client, function, 20))) == {server.node for server in servers}


def test_a_group_with_mqtt_3_1_1_is_refused_with_both_settings_named(bench: Bench) -> None:
    server = bench.server(bench.idle_broker(), {**GROUP, "mqtt_protocol": "3.1.1"})
    server.spawn()
    assert server.wait() == 78
    assert "node.group" in server.log.tail()
    assert "mqtt.protocol" in server.log.tail()


def test_another_device_under_the_same_name_answers_what_waited_for_it(bench: Bench, function: str) -> None:
    broker = bench.broker()
    dead, other = nodes(bench, broker, 2)
    client = bench.client(broker)
    deploy(client, [dead, other], function, ECHO)
    dead.kill()
    labels = [new_label("call") for _ in range(10)]
    for label in labels:
        client.publish(f"faas/invoke/{function}", {"request_id": label}, wait=True)
    (replacement,) = nodes(bench, broker, 1)
    deploy(client, [replacement], function, ECHO)  # under a name of its own, before it gets what waits
    assert replacement.stop() == 0
    replacement.node, replacement.instance = dead.node, dead.instance
    replacement.start()
    answered_by = Counter(client.answer_to(label).body["node"] for label in labels)
    assert answered_by == {dead.node: 5, other.node: 5}
