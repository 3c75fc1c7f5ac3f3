"""Chatty sensors: gathered, waited for, or thinned out; what waits is the broker's until it has run."""

from __future__ import annotations

import hashlib
import os

import pytest

from tests.harness.bench import Bench
from tests.harness.client import Client, new_label
from tests.harness.events import TELLING, records, results, wait_records
from tests.harness.waiting import eventually

PAYLOADS = "def main(events): return [event['payload'] for event in events]"
PAYLOAD = "def main(event): return event['payload']"
AGES = 3600  # longer than any test


@pytest.fixture
def house() -> str:
    """The first level of topics that no other test uses."""
    return new_label("house")


def held(client: Client) -> int:
    """Messages and requests that the server holds unanswered."""
    return int(client.request("faas/admin/status")["queue"]["held"])


def test_a_batch_is_run_when_it_is_full_or_old_enough(client: Client, function: str, house: str) -> None:
    client.deploy(function, PAYLOADS, config={"concurrency": 1, "trigger": [
        {"topic": f"{house}/+", "batch": {"events": 3, "seconds": AGES}},
        {"topic": f"{house}/old/+", "batch": {"events": 1000, "seconds": 0.2}},
    ]})  # fmt: skip
    for value in range(6):
        client.publish(f"{house}/{value % 2}", str(value), qos=value % 2)
    assert results(client, function, 2) == [[0, 1, 2], [3, 4, 5]]
    client.publish(f"{house}/old/a", "6")
    client.publish(f"{house}/old/b", "7")
    seen = [value for record in records_when(client, function, 8)[2:] for value in record]
    assert seen == [6, 7]
    assert records(client, function)[0]["trigger"] == f"{house}/+"


def records_when(client: Client, function: str, values: int) -> list[list[int]]:
    """The results of batches as soon as they hold so many values together."""
    found: list[list[int]] = []

    def enough() -> bool:
        found[:] = [record["result"] for record in records(client, function)]
        return sum(map(len, found)) >= values

    eventually(enough, f"{values} values")
    return found


def test_what_is_wrong_in_a_batch_is_recorded_by_itself_and_the_rest_is_run(
    client: Client, function: str, house: str
) -> None:
    client.deploy(function, PAYLOADS, config={"concurrency": 1, "trigger": [
        {"topic": house, "batch": {"events": 4, "seconds": AGES}},
    ]})  # fmt: skip
    for payload in ("1", "{", "2", "}"):
        client.publish(house, payload)
    found = wait_records(client, function, 3)
    assert [record.get("code", record.get("result")) for record in found] == [[1, 2], "bad_request", "bad_request"]
    for payload in ("{", "}", "[", "]"):
        client.publish(house, payload)
    assert [record.get("code") for record in wait_records(client, function, 7)[3:]] == ["bad_request"] * 4
    eventually(lambda: held(client) == 0, "everything to be acknowledged")


def test_a_batch_of_bytes_closes_before_it_is_more_than_a_call_may_be(
    client: Client, function: str, house: str
) -> None:
    client.deploy(function, TELLING, config={"max_payload_bytes": 250_000, "trigger": [
        {"topic": house, "payload": "bytes", "batch": {"events": 3, "seconds": AGES}},
    ]})  # fmt: skip
    pictures = [os.urandom(100_000) for _ in range(5)]
    for picture in pictures:
        client.publish(house, picture)
    found = wait_records(client, function, 2)
    digests = [[event["digest"] for event in record["result"]] for record in found]
    expected = [hashlib.sha256(picture).hexdigest() for picture in pictures[:4]]
    assert sorted(digests) == sorted([expected[:2], expected[2:]])
    assert held(client) == 1
    assert client.request(f"faas/admin/delete/{function}")["status"] == "deleted"  # and what waits for it is dropped
    eventually(lambda: held(client) == 0, "the last one to be acknowledged")


def test_after_quiet_the_last_of_each_topic_is_run(client: Client, function: str, house: str) -> None:
    before = client.request("faas/admin/status")["queue"]["triggers"]["dropped"]
    client.deploy(function, PAYLOAD, config={"trigger": [{"topic": f"{house}/+", "debounce_s": 1.0}]})
    for value in range(20):
        client.publish(f"{house}/{value % 2}", str(value), qos=value // 2 % 2)
    assert sorted(results(client, function, 2)) == [18, 19]
    assert client.request("faas/admin/status")["queue"]["triggers"]["dropped"] - before == 18
    client.publish(f"{house}/0", "20")
    assert results(client, function, 3)[2] == 20
    eventually(lambda: held(client) == 0, "everything to be acknowledged")


def test_throttled_the_first_runs_at_once_and_the_last_wins(client: Client, function: str, house: str) -> None:
    client.deploy(function, PAYLOAD, config={"trigger": [{"topic": f"{house}/+", "throttle_s": 1.5}]})
    for value in range(10):
        client.publish(f"{house}/a", str(value))
    client.publish(f"{house}/b", "100")
    assert sorted(results(client, function, 3)) == [0, 9, 100]
    eventually(lambda: held(client) == 0, "everything to be acknowledged")


def test_what_waits_at_a_stop_or_a_crash_is_delivered_again(bench: Bench, function: str, house: str) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    beside = new_label("beside")
    client.deploy(beside, PAYLOAD, config={"concurrency": 1, "trigger": [{"topic": f"{house}/#"}]})
    client.deploy(function, PAYLOADS, config={"concurrency": 1, "trigger": [
        {"topic": f"{house}/#", "batch": {"events": 5, "seconds": AGES}}],
    })  # fmt: skip
    client.publish(f"{house}/a", "1")
    wait_records(client, beside, 1)
    assert client.request("faas/admin/status")["queue"]["triggers"]["waiting"] == 1
    server.restart()
    client.publish(f"{house}/b", "2")
    wait_records(client, beside, 2)
    server.kill()
    server.start()
    for value in (3, 4):
        client.publish(f"{house}/c", str(value))
    wait_records(client, beside, 4)
    server.kill()
    server.start()
    client.publish(f"{house}/d", "5")
    assert [sorted(each) for each in results(client, function, 1)] == [[1, 2, 3, 4, 5]]
    assert results(client, beside, 5) == [1, 2, 3, 4, 5]
    eventually(lambda: held(client) == 0, "everything to be acknowledged")
    server.kill()
    server.start()
    client.settle()
    assert len(records(client, function)) == 1
    assert len(records(client, beside)) == 5


def test_a_batch_gives_way_when_there_is_no_room_for_more(bench: Bench, function: str, house: str) -> None:
    broker = bench.broker()
    bench.server(broker, {"queue_max_requests": 10}).start()
    client = bench.client(broker)
    client.deploy(function, PAYLOADS, config={"concurrency": 1, "trigger": [
        {"topic": house, "batch": {"events": 100, "seconds": AGES}},
    ]})  # fmt: skip
    for value in range(40):  # the last of them may wait
        client.publish(house, str(value))
    values = [value for each in records_when(client, function, 30) for value in each]
    assert values == list(range(len(values)))
