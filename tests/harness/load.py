"""A steady load, and the count of what became of it."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

from tests.harness.client import Client, Message, new_label
from tests.harness.server import Server

# Appends what it runs to a file that outlives workers and server.
COUNTING = """
    import os
    def main(number):
        with open("runs", "a") as file:
            file.write(f"{number}\\n")
        return number
"""


PER_SECOND = 200


class Load:
    """Publishes numbered requests at a steady rate until it is stopped."""

    def __init__(self, client: Client, function: str, per_second: float = PER_SECOND) -> None:
        self.sent = 0
        self._per_second = per_second
        self._packet_ids: list[int] = []
        self._looked_at = 0
        self._found: dict[int, list[Message]] = {}
        self._client = client
        self._topic = f"faas/invoke/{function}"
        self._label = new_label("load")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def stop(self) -> None:
        """Publish no more."""
        self._stop.set()
        self._thread.join()

    def accepted(self) -> set[int]:
        """The requests that the broker has acknowledged to us."""
        confirmed = self._client.confirmed
        return {number for number, mid in enumerate(list(self._packet_ids)) if mid in confirmed}

    def answered(self) -> int:
        """How many requests have an answer so far."""
        return len(self.answers())

    def answers(self) -> dict[int, list[Message]]:
        """The answers that have come, by the number of their request."""
        new = self._client.seen[self._looked_at :]
        self._looked_at += len(new)
        for message in new:
            if not message.topic.startswith("faas/response/invoke/"):
                continue
            label = str(message.body.get("request_id", ""))
            if label.startswith(f"{self._label}-"):
                self._found.setdefault(int(label.rpartition("-")[2]), []).append(message)
        return self._found

    def _run(self) -> None:
        while not self._stop.wait(1 / self._per_second):
            body = {"args": [self.sent], "request_id": f"{self._label}-{self.sent}"}
            self._packet_ids.append(self._client.publish(self._topic, body))
            self.sent += 1


def runs_of(server: Server, function: str) -> Counter[int]:
    """How often each request was run, by what the function itself wrote down."""
    runs: Path = server.functions_dir / function / "state" / "runs"
    return Counter(int(line) for line in runs.read_text().split())


def outcomes(messages: list[Message]) -> set[str]:
    """The ids of the outcomes in the answers to one request: an identical answer may repeat, an id may not change."""
    return {message.body["id"] for message in messages}
