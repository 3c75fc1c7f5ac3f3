"""Functions that are called by the clock: when, with what, how often at once, and what a restart makes of it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bench import Bench
from tests.harness.client import Client
from tests.harness.server import Server
from tests.harness.waiting import eventually

COUNTING = """
    import os, time
    from pathlib import Path

    STATE = Path(os.environ["TINYFAAS_STATE_DIR"])

    def main(event):
        with (STATE / "runs").open("a") as file:
            file.write(f"{time.monotonic()} {event['time']} {event['schedule']}\\n")
        return event
"""
SECONDLY = {"schedule": [{"every_s": 1}]}
HOURLY = {"every_s": 3600}


def runs(server: Server, function: str) -> list[list[str]]:
    """Of each run so far when it was, when it was due, and by which schedule."""
    file = server.functions_dir / function / "state" / "runs"
    return [line.split(" ", 2) for line in file.read_text().splitlines()] if file.exists() else []


def wait_runs(server: Server, function: str, count: int) -> list[list[str]]:
    """Wait for so many runs."""
    eventually(lambda: len(runs(server, function)) >= count, f"{count} runs of {function}")
    return runs(server, function)


def logs(client: Client, function: str) -> list[dict[str, Any]]:
    """The function's history."""
    found: list[dict[str, Any]] = client.request(f"faas/admin/logs/{function}")["logs"]
    return found


def threads(server: Server) -> int:
    """How many threads the server has."""
    return len(list(Path(f"/proc/{server.pid}/task").iterdir()))


# --- calls -------------------------------------------------------------------------------------------------------


def test_a_schedule_calls_with_its_name_and_time_and_answers_nobody(
    client: Client, server: Server, function: str
) -> None:
    before = threads(server)
    client.deploy(function, COUNTING, config=SECONDLY)
    seen = wait_runs(server, function, 3)
    assert all(0.5 < float(later[0]) - float(sooner[0]) < 1.9 for sooner, later in pairwise(seen[:3]))
    assert {schedule for _, _, schedule in seen} == {"every 1 s"}
    due = [datetime.fromisoformat(time) for _, time, _ in seen]
    assert all(abs((later - sooner).total_seconds() - 1) < 0.1 for sooner, later in pairwise(due))
    record = logs(client, function)[-1]
    assert (record["schedule"], record["status"], record["function"]) == ("every 1 s", "success", function)
    assert record["args"] == [record["result"]]
    client.settle()
    assert [message for message in client.seen if message.topic == f"faas/response/invoke/{function}"] == []
    assert threads(server) == before
    direct = client.invoke(function, {"time": "now", "schedule": "none"})  # it can be called as ever
    assert (direct["status"], "schedule" in direct) == ("success", False)
    client.request(f"faas/admin/delete/{function}")


def test_a_run_that_fails_is_tried_again_and_told_on_the_error_topic(
    client: Client, server: Server, function: str
) -> None:
    code = "def main(event): raise ValueError(event['schedule'])"
    retry = {"attempts": 2, "backoff_s": 0, "on": ["function_error"]}
    client.deploy(function, code, config={**SECONDLY, "retry": retry})
    error = client.wait_topic("faas/response/error", function=function).body
    client.request(f"faas/admin/delete/{function}")
    assert (error["code"], error["schedule"], error["attempts"]) == ("function_error", "every 1 s", 2)
    assert error["error"] == "ValueError: every 1 s"
    letter = client.wait_topic(f"faas/deadletter/{function}").body
    assert letter["payload"]["args"][0]["schedule"] == "every 1 s"


def test_a_schedule_does_not_overlap_itself_unless_it_is_asked_to(
    client: Client, server: Server, function: str
) -> None:
    code = "import time\ndef main(event): time.sleep(1.6)"
    client.deploy(function, code, config=SECONDLY)
    other = f"{function}-over"
    client.deploy(other, code, config={"schedule": [{"every_s": 1, "overlap": True}], "concurrency": 2})
    server.log.wait(event="schedule_overlaps", function=function, schedule="every 1 s")
    eventually(lambda: min(len(logs(client, name)) for name in (function, other)) >= 3, "runs of both")
    overlapping = {}
    for name in (function, other):
        times = sorted((record["time_start"], record["time_end"]) for record in logs(client, name))
        overlapping[name] = [later for (_, ended), (later, _) in pairwise(times) if later < ended]
    assert overlapping[function] == []
    assert overlapping[other]
    assert server.log.records(event="schedule_overlaps", function=other) == []
    for name in (function, other):
        client.request(f"faas/admin/delete/{name}")


def test_a_schedule_lives_as_long_as_the_version_that_has_it(client: Client, server: Server, function: str) -> None:
    client.deploy(function, COUNTING, config=SECONDLY)
    wait_runs(server, function, 2)
    client.deploy(function, COUNTING)
    assert client.request(f"faas/admin/info/{function}")["schedules"] == []
    stopped = len(runs(server, function))
    watch = f"{function}-watch"  # whose runs show how time goes by
    client.deploy(watch, COUNTING, config=SECONDLY)
    wait_runs(server, watch, 3)
    assert len(runs(server, function)) <= stopped + 1  # one may have been queued
    client.request(f"faas/admin/rollback/{function}")
    wait_runs(server, function, stopped + 3)
    for name in (function, watch):
        client.request(f"faas/admin/delete/{name}")
    client.deploy(watch, COUNTING, config=SECONDLY)
    wait_runs(server, watch, 3)
    assert server.log.records(event="invocation_done", function=function, code="not_found") == []
    client.request(f"faas/admin/delete/{watch}")


def test_info_tells_the_schedules_and_when_each_is_due_next(client: Client, server: Server, function: str) -> None:
    schedule = [{"cron": "0 3 * * *", "timezone": "Europe/Berlin"}, {"cron": "@hourly"}, HOURLY]
    config = {"schedule": schedule, "publish": ["actuators/#"]}
    client.deploy(function, COUNTING, config=config)
    said = client.request(f"faas/admin/info/{function}")
    told = {each["schedule"]: datetime.fromisoformat(each["next"]) for each in said["schedules"]}
    assert list(told) == ["0 3 * * * Europe/Berlin", "@hourly", "every 3600 s"]
    now = datetime.now(UTC)
    assert 0 < (told["0 3 * * * Europe/Berlin"] - now).total_seconds() <= 90_000
    assert told["0 3 * * * Europe/Berlin"].hour in (1, 2)
    assert (told["@hourly"].minute, told["@hourly"].second) == (0, 0)
    assert 3_500 < (told["every 3600 s"] - now).total_seconds() <= 3_600
    assert (said["publishes"], said["subscribes"]) == (["actuators/#"], [])
    client.request(f"faas/admin/delete/{function}")


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ({"cron": "61 * * * *"}, r"config.schedule\[0\]: '61 \* \* \* \*' is no time of cron: Bad minute"),
        ({"cron": "0 0 31 2 *"}, r"config.schedule\[0\]: .*is no time of cron"),
        ({"cron": "0 3 * * *", "timezone": "Mars/Base"}, r"config.schedule\[0\]: 'Mars/Base' is no time zone"),
        ({}, r"config.schedule\[0\]"),
        ({"every_s": 5, "cron": "0 3 * * *"}, r"config.schedule\[0\]"),
        ({"every_s": 0.1}, r"config.schedule\[0\].every_s"),
        ({"every_s": 5, "missed": "all"}, r"config.schedule\[0\].missed"),
    ],
)
def test_a_schedule_that_can_not_be_is_refused_with_its_reason(
    client: Client, function: str, schedule: dict[str, Any], why: str
) -> None:
    answer = client.upload(function, COUNTING, config={"schedule": [schedule]})
    assert answer["code"] == "bad_request"
    assert re.search(why, answer["error"]), answer["error"]
    assert client.upload(function, COUNTING, config={"schedule": [HOURLY, HOURLY]})["code"] == "bad_request"


# --- restarts and outages ----------------------------------------------------------------------------------------


def test_a_restart_makes_up_once_for_what_it_swallowed_where_that_is_asked_for(bench: Bench, function: str) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    once, skipping, nightly = f"{function}-once", f"{function}-skip", f"{function}-night"
    with Client(broker.port) as client:
        client.deploy(once, COUNTING, config={"schedule": [{**HOURLY, "missed": "run_once"}]})
        client.deploy(skipping, COUNTING, config={"schedule": [HOURLY]})
        client.deploy(nightly, COUNTING, config={"schedule": [{"cron": "0 3 * * *", "missed": "run_once"}]})
        noted = server.data_dir / "schedules.json"
        eventually(lambda: noted.exists() and once in noted.read_text(), "the schedules to be noted")
        assert server.stop() == 0
        kept = json.loads(noted.read_text())
        assert set(kept) == {once, nightly}
        days_ago = kept[once]["every 3600 s"] - 5 * 86_400
        noted.write_text(
            json.dumps({once: {"every 3600 s": days_ago}, nightly: {"0 3 * * *": days_ago}, "gone": {"x": 1}})
        )
        server.start()
        assert len(wait_runs(server, once, 1)) == 1
        (night,) = wait_runs(server, nightly, 1)
        assert datetime.fromisoformat(night[1]).strftime("%M:%S") == "00:00"
        assert server.stop() == 0
        kept = json.loads(noted.read_text())
        assert set(kept) == {once, nightly}
        assert min(kept[once]["every 3600 s"], kept[nightly]["0 3 * * *"]) > days_ago + 3 * 86_400
        server.start()
        client.deploy(function, COUNTING, config=SECONDLY)
        wait_runs(server, function, 2)
        assert [len(runs(server, name)) for name in (once, skipping, nightly)] == [1, 0, 1]
        noted.write_text("{")
        server.restart()
        server.log.wait(event="last_runs_unreadable")
        wait_runs(server, function, len(runs(server, function)) + 2)


def test_schedules_go_on_while_the_broker_is_away(bench: Bench, function: str) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    failing = f"{function}-failing"
    with Client(broker.port) as client:
        client.deploy(function, COUNTING, config=SECONDLY)
        client.deploy(failing, "def main(event): raise ValueError", config=SECONDLY)
        wait_runs(server, function, 1)
    broker.stop()
    server.log.wait(event="disconnected")
    mark = server.log.mark()
    wait_runs(server, function, len(runs(server, function)) + 3)
    for _ in range(2):
        server.log.wait(mark, event="invocation_done", function=failing)
        mark = server.log.mark()
    broker.start()
    server.instance = ""
    server.wait_online()
    with Client(broker.port) as client:
        queue = client.request("faas/admin/status")["queue"]
        assert queue["held"] <= 4
        client.wait_topic("faas/response/error", function=failing)


def test_a_schedule_stops_with_its_server_and_what_waits_is_dropped(bench: Bench, function: str) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"drain_s": 10}).start()
    code = """
        import time
        def main(event):
            with open("began", "a") as file: file.write("x")
            time.sleep(1.2)
            with open("ended", "a") as file: file.write("x")
    """
    config = {"schedule": [{"every_s": 1, "overlap": True}], "concurrency": 1}
    with Client(broker.port) as client:
        client.deploy(function, code, config=config)
        state = server.functions_dir / function / "state"
        eventually(lambda: (state / "began").exists() and len((state / "began").read_text()) >= 2, "runs that queue up")
    assert server.stop() == 0
    assert (state / "began").read_text() == (state / "ended").read_text()
    assert server.log.records(event="invocation_internal_error") == []
