"""What a function prints, shown over MQTT to who has asked for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.harness.client import Client
from tests.harness.server import Server
from tests.harness.waiting import eventually

CHATTY = """
    import sys

    def main(*lines, context=None):
        for line in lines:
            print(line)
        print("to stderr", file=sys.stderr)
        context.log.warning("hot", celsius=71)
        return len(lines)
"""


@pytest.fixture
def chatty(client: Client, function: str) -> str:
    client.deploy(function, CHATTY)
    return function


def listen(client: Client, function: str, for_s: object = 60) -> dict[str, Any]:
    """Ask for what is printed."""
    return client.request(f"faas/admin/logs/{function}", {"limit": 1, "output_s": for_s})


def shown(client: Client, function: str, request_id: str) -> list[tuple[str, str]]:
    """Stream and line of what this call was seen to print."""
    events = [each.body for each in client.seen if each.topic == f"faas/event/output/{function}"]
    return [(each["stream"], each["line"]) for each in events if each["request_id"] == request_id]


def test_who_has_asked_is_shown_what_a_call_prints_and_logs(client: Client, chatty: str) -> None:
    assert listen(client, chatty)["status"] == "ok"
    answer = client.invoke(chatty, "one", "zwei ü")
    eventually(lambda: len(shown(client, chatty, answer["request_id"])) == 4, "all lines to come")
    lines = shown(client, chatty, answer["request_id"])
    assert [line for stream, line in lines if stream == "stdout"] == ["one", "zwei ü"]
    assert ("stderr", "to stderr") in lines
    record = client.wait_topic(f"faas/event/output/{chatty}", stream="log").body
    assert (record["line"], record["level"], record["fields"]) == ("hot", "warning", {"celsius": 71})
    assert (record["id"], record["version"], record["node"]) == (answer["id"], 1, answer["node"])


def test_nothing_is_published_unless_somebody_has_asked(client: Client, server: Server, chatty: str) -> None:
    listen(client, chatty, 0)
    answer = client.invoke(chatty, "unheard")
    assert server.log.records(event="function_output", line="unheard", function=chatty)
    listen(client, chatty)
    after = client.invoke(chatty, "heard")
    eventually(lambda: ("stdout", "heard") in shown(client, chatty, after["request_id"]), "what was asked for")
    assert shown(client, chatty, answer["request_id"]) == []


def test_after_the_time_that_was_asked_for_nothing_is_published(client: Client, chatty: str) -> None:
    listen(client, chatty, 0.2)

    def is_over() -> bool:
        """Calls are answered on a connection of their own, so what one has printed is waited for by a later command."""
        request_id = client.invoke(chatty)["request_id"]
        client.request("faas/admin/list")
        return shown(client, chatty, request_id) == []

    eventually(is_over, "the tap to close")


def test_no_other_function_is_shown(client: Client, chatty: str, function: str) -> None:
    client.deploy(f"{function}-2", CHATTY)
    listen(client, chatty)
    other = client.invoke(f"{function}-2", "mine")
    client.request("faas/admin/list")
    assert shown(client, f"{function}-2", other["request_id"]) == []


def test_no_more_is_shown_than_a_call_may_print(client: Client, function: str) -> None:
    client.deploy(function, CHATTY, config={"max_output_bytes": 2_000})
    listen(client, function)
    answer = client.invoke(function, *["x" * 99] * 100)
    client.request("faas/admin/list")
    lines = shown(client, function, answer["request_id"])
    assert 0 < len(json.dumps([line for _, line in lines])) < 3_000


@pytest.mark.parametrize("wrong", [-1, 601, "long", True, None])
def test_a_time_that_can_not_be_is_refused(client: Client, chatty: str, wrong: object) -> None:
    answer = listen(client, chatty, wrong)
    assert (answer["code"], answer["error"]) == ("bad_request", '"output_s" must be a number from 0 to 600')


def test_what_is_not_there_can_not_be_listened_to(client: Client, function: str) -> None:
    assert listen(client, function)["code"] == "not_found"
