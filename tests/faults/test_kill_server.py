"""The server is killed in the middle of anything: every request has its answer, and one outcome."""

from __future__ import annotations

import random
import threading
from collections import Counter

from tests.harness.bench import Bench
from tests.harness.client import Client, Message, is_answer, new_label
from tests.harness.waiting import eventually

KILLS = 20
PER_SECOND = 200

# Appends what it runs to a file that outlives workers and server.
COUNTING = """
    import os
    def main(number):
        with open("runs", "a") as file:
            file.write(f"{number}\\n")
        return number
"""


class Load:
    """Publishes numbered requests at a steady rate until it is stopped."""

    def __init__(self, client: Client, function: str) -> None:
        self.sent = 0
        self._client = client
        self._topic = f"faas/invoke/{function}"
        self._label = new_label("load")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def answers(self) -> dict[int, list[Message]]:
        """The answers that have come, by the number of their request."""
        found: dict[int, list[Message]] = {}
        for message in list(self._client.seen):
            label = str(message.body.get("request_id", ""))
            if (
                is_answer(message)
                and message.topic.startswith("faas/response/invoke/")
                and label.startswith(self._label)
            ):
                found.setdefault(int(label.rpartition("-")[2]), []).append(message)
        return found

    def _run(self) -> None:
        while not self._stop.wait(1 / PER_SECOND):
            self._client.publish(self._topic, {"args": [self.sent], "request_id": f"{self._label}-{self.sent}"})
            self.sent += 1


def test_every_request_is_answered_over_twenty_kills_and_no_answered_one_runs_again(
    bench: Bench, function: str
) -> None:
    seed = 20_261_123
    chance = random.Random(seed)
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    client.deploy(function, COUNTING)
    load = Load(client, function)
    load.start()
    for _ in range(KILLS):
        threading.Event().wait(chance.uniform(0.05, 0.6))  # the moment is what is tried: it must not be chosen
        server.kill()
        server.start()
    load.stop()
    eventually(lambda: len(load.answers()) == load.sent, "all answers", timeout_s=60.0)
    answers = load.answers()
    runs = Counter(int(line) for line in (server.functions_dir / function / "state" / "runs").read_text().split())
    # A run that a kill cut short before its answer was recorded is repeated; what was answered keeps its one id.
    run_again = sum(count > 1 for count in runs.values())
    repeated = sum(len(messages) - 1 for messages in answers.values())
    two_outcomes = [number for number, messages in answers.items() if len({each.body["id"] for each in messages}) > 1]
    print(f"kills={KILLS} sent={load.sent} answered={len(answers)} repeated={repeated} run_again={run_again}")
    assert {message.body["status"] for messages in answers.values() for message in messages} == {"success"}
    assert two_outcomes == []
    assert len(runs) == load.sent
