"""The wall clock jumps by a year and back while calls run: nothing is measured by it, so nothing happens."""

from __future__ import annotations

import time

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


NIGHTLY = """
    from pathlib import Path

    def main(event):
        with Path("runs").open("a") as file:
            file.write(event["time"] + "\\n")
"""


@pytest.mark.timeout(180)
def test_schedules_over_a_clock_that_begins_in_the_past_is_set_and_set_back(bench: Bench, function: str) -> None:
    """A Pi without a clock begins in 2021. It meets a time server, twice, and one of them is wrong by a year."""
    found = library()
    if found is None:
        pytest.skip("libfaketime is not installed: scripts/test faults does that")
    broker = bench.broker()
    clock = WallClock(bench.grounds.new_folder("clock"), found)
    clock.show("2021-05-05T12:00:00")
    server = bench.server(broker)
    server.environ = clock.environ
    server.start()
    client = bench.client(broker)
    ticking = f"{function}-ticks"
    nightly = {"cron": "0 3 * * *", "timezone": "UTC"}
    began_s = time.monotonic()
    client.deploy(function, NIGHTLY, config={"schedule": [nightly]})
    client.deploy(ticking, NIGHTLY, config={"schedule": [{"every_s": 1}]})

    def runs(name: str = function) -> list[str]:
        file = server.functions_dir / name / "state" / "runs"
        return file.read_text().splitlines() if file.exists() else []

    def wait_ticks(count: int) -> None:
        """Time goes by: the other schedule does not care what the clock shows."""
        due = len(runs(ticking)) + count
        eventually(lambda: len(runs(ticking)) >= due, "the clock that does not jump to tick")

    wait_ticks(2)
    clock.show("2026-06-01T08:00:00")  # the first contact: nothing was missed
    wait_ticks(2)
    assert runs() == []
    (told,) = client.request(f"faas/admin/info/{function}")["schedules"]
    assert told == {"schedule": "0 3 * * * UTC", "next": "2026-06-02T03:00:00.000Z"}
    clock.show("2026-06-02T02:59:58")
    eventually(runs, "the night's run")
    assert runs() == ["2026-06-02T03:00:00.000Z"]
    clock.show("2026-06-02T02:59:00")  # set back by a minute: not again
    wait_ticks(2)
    clock.show("2026-06-02T03:10:00")
    wait_ticks(2)
    assert runs() == ["2026-06-02T03:00:00.000Z"]
    clock.show("2027-06-01T12:00:00")  # a year ahead, and back: no burst
    wait_ticks(2)
    clock.show("2026-06-02T12:00:00")
    wait_ticks(2)
    assert len(runs()) <= 2
    before = len(runs())
    clock.show("2026-06-03T02:59:58")  # and the next night has its run
    eventually(lambda: len(runs()) > before, "the next night's run")
    assert runs()[before:] == ["2026-06-03T03:00:00.000Z"]
    assert server.log.records(event="schedules_failed") == []
    assert len(runs(ticking)) <= time.monotonic() - began_s + 1  # a second each, whatever was shown
    assert server.log.records(event="threads_stuck") == []
