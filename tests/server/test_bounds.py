"""What is beyond the bounds, or asks for an answer where none may go, harms nobody else."""

from __future__ import annotations

import pytest

from tests.harness.bench import Bench
from tests.harness.client import Client, new_label
from tests.harness.server import Server
from tests.harness.waiting import eventually

SLOW = """
    import time
    def main(number):
        time.sleep(0.3)
        return number
"""


@pytest.mark.parametrize("topic", ["faas/invoke/nobody", "faas/admin/list", "faas/admin/upload/nobody"])
@pytest.mark.parametrize("answer_to", ["a/#", "elsewhere/me"])
@pytest.mark.parametrize("payload", [b"junk", b"{}"])
def test_nothing_is_answered_on_a_forbidden_topic_whatever_else_is_wrong(
    server: Server, client: Client, topic: str, answer_to: str, payload: bytes
) -> None:
    start = len(client.seen)
    client.publish(topic, payload, ResponseTopic=answer_to)
    refusal = client.wait(lambda message: message.topic == "faas/response/error", "the refusal", start)
    assert refusal.body["code"] == ("bad_request" if payload == b"junk" else "forbidden")
    assert client.request("faas/admin/list")["status"] == "ok"


def test_beyond_the_bounds_qos_1_waits_and_is_answered(bench: Bench, function: str) -> None:
    broker = bench.broker()
    bench.server(broker, {"queue_max_requests": 5}).start()
    client = bench.client(broker)
    client.deploy(function, SLOW)
    label = new_label("flood")
    for number in range(15):
        client.publish(f"faas/invoke/{function}", {"args": [number], "request_id": f"{label}-{number}"})
    assert [client.answer_to(f"{label}-{number}").body["result"] for number in range(15)] == list(range(15))


def test_a_flood_at_qos_0_is_answered_in_full_and_logged_with_its_count(bench: Bench, function: str) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"queue_max_requests": 5}).start()
    client = bench.client(broker)
    client.deploy(function, SLOW)
    label = new_label("flood")
    for number in range(15):
        client.publish(f"faas/invoke/{function}", {"args": [number], "request_id": f"{label}-{number}"}, qos=0)
    answers = [client.answer_to(f"{label}-{number}").body for number in range(15)]
    refused = [number for number, answer in enumerate(answers) if answer.get("code") == "overloaded"]
    run = [answer["result"] for answer in answers if answer["status"] == "success"]
    assert sorted(run + refused) == list(range(15))
    assert len(refused) >= 5
    eventually(
        lambda: sum(record["refused"] for record in server.log.records(event="queue_full")) == len(refused),
        "the log to count them",
    )


def test_a_full_server_takes_up_its_work_again_after_the_broker_was_away(bench: Bench, function: str) -> None:
    broker = bench.broker()
    bench.server(broker, {"queue_max_requests": 3}).start()
    client = bench.client(broker)
    client.deploy(function, SLOW)
    for number in range(10):
        client.publish(f"faas/invoke/{function}", {"args": [number], "request_id": new_label("early")}, wait=True)
    broker.stop()
    broker.start()
    client.wait_connected()
    assert client.call(function, 99) == 99
