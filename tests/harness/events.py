"""What triggered calls leave behind: their records, by which tests see what ran."""

from __future__ import annotations

from typing import Any

from tests.harness.client import Client
from tests.harness.waiting import eventually

# Returns the event it got; of bytes their length and whether they are what was sent.
TELLING = """
    import hashlib
    def shown(event):
        payload = event["payload"]
        if isinstance(payload, bytes):
            return {**event, "payload": len(payload), "digest": hashlib.sha256(payload).hexdigest()}
        return event
    def main(event):
        return [shown(each) for each in event] if isinstance(event, list) else shown(event)
"""


def records(client: Client, function: str) -> list[dict[str, Any]]:
    """The records of a function, oldest first."""
    answer = client.request(f"faas/admin/logs/{function}", {"limit": 10_000})
    assert "logs" in answer, answer
    return list(answer["logs"])


def wait_records(client: Client, function: str, count: int) -> list[dict[str, Any]]:
    """The records of a function as soon as there are so many; more are a failure."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found[:] = records(client, function)
        return len(found) >= count

    eventually(enough, f"{count} records of {function}")
    assert len(found) == count, found
    return found


def results(client: Client, function: str, count: int) -> list[Any]:
    """What so many triggered calls returned; all must have succeeded."""
    found = wait_records(client, function, count)
    assert {record["status"] for record in found} == {"success"}, found
    return [record["result"] for record in found]
