"""Thousands of workers crash: nothing piles up, neither zombies nor descriptors nor memory."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.harness.bench import Bench
from tests.harness.census import below, descriptors, resident_bytes, zombies
from tests.harness.client import Client, new_label
from tests.harness.waiting import eventually

# Without a sandbox as many as are asked for; with one a start takes several times as long, and so these are fewer.
CRASHES = {"off": 10_000, "required": 2_000}
AT_ONCE = 32  # requests that wait
SETTLED = 200  # crashes after which all that is kept has been made
MOST_GROWTH_BYTES = 8 * 1024 * 1024

CRASHING = "import os\ndef main(crash=True):\n    if crash: os._exit(7)\n    return 'well'"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mode", CRASHES)
def test_thousands_of_crashes_leave_nothing_behind(bench: Bench, function: str, mode: str) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"sandbox_mode": mode, "workers": 4, "log_level": "error"}).start()
    client = bench.client(broker, topics=("faas/response/#",))
    client.deploy(function, CRASHING)
    crash(client, function, SETTLED)
    before = descriptors(server.pid), resident_bytes(server.pid)
    codes = crash(client, function, CRASHES[mode])
    assert client.call(function, False) == "well"
    eventually(lambda: not zombies(server.pid), "all to be reaped")
    eventually(lambda: descriptors(server.pid) <= before[0] + 8, f"no more than {before[0]} descriptors")
    after = descriptors(server.pid), resident_bytes(server.pid)
    print(f"sandbox {mode}: codes={dict(codes)} zombies=0 below={len(below(server.pid))} "
          f"descriptors={before[0]}→{after[0]} rss_kib={before[1] >> 10}→{after[1] >> 10}")  # fmt: skip
    assert codes == {"crashed": CRASHES[mode]}
    assert after[1] - before[1] < MOST_GROWTH_BYTES


def crash(client: Client, function: str, count: int) -> Counter[str]:
    """Call it so often, with a few requests on their way at any time; returns how often each code came."""
    codes: Counter[str] = Counter()
    for first in range(0, count, AT_ONCE):
        labels = [new_label("crash") for _ in range(min(AT_ONCE, count - first))]
        for label in labels:
            client.publish(f"faas/invoke/{function}", {"request_id": label})
        codes.update(client.answer_to(label).body["code"] for label in labels)
        client.seen.clear()
    return codes
