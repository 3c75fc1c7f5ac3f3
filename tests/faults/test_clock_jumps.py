"""The wall clock jumps by a year and back while calls run: nothing is measured by it, so nothing happens."""

from __future__ import annotations

import pytest

from tests.harness.bench import Bench
from tests.harness.clock import WallClock, library
from tests.harness.load import COUNTING, Load, runs_of
from tests.harness.tally import tally, wait_answered
from tests.harness.waiting import eventually

YEAR = 365


@pytest.mark.timeout(180)
def test_a_clock_that_jumps_by_a_year_ends_no_call_and_starts_none(bench: Bench, function: str) -> None:
    found = library()
    if found is None:
        pytest.skip("libfaketime is not installed: scripts/test faults does that")
    broker = bench.broker()
    clock = WallClock(bench.grounds.new_folder("clock"), found)
    server = bench.server(broker)
    server.environ = clock.environ
    server.start()
    bench.client(broker).deploy(function, COUNTING, config={"timeout_s": 20})
    load = Load(bench.client(broker, topics=("faas/response/invoke/#",)), function, per_second=100)
    load.start()
    years: set[str] = set()
    for days in (0, YEAR, -YEAR, 0, -YEAR, YEAR):
        clock.turn_to(days)
        due = load.answered() + 100
        eventually(lambda due=due: load.answered() >= due, "answers by the turned clock")  # type: ignore[misc]
    load.stop()
    wait_answered(load)
    bodies = [message.body for messages in load.answers().values() for message in messages]
    years = {body["time_start"][:4] for body in bodies}
    odd = [body for body in bodies if body["status"] != "success" or not 0 <= body["duration_ms"] < 20_000]
    counts = tally("clock jumps", load, runs_of(server, function))
    counts.say(years=len(years), failed_or_odd=len(odd), disconnects=len(server.log.records(event="disconnected")))
    assert len(years) == 3  # or the clock was not turned at all
    assert odd == []
    assert (counts.lost, counts.twice, counts.run_twice) == (set(), 0, set())
    assert server.log.records(event="disconnected") == []
    assert server.log.records(event="threads_stuck") == []
