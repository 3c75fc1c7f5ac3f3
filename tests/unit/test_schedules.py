"""What is called when it is due, with a dispatcher of the test's making and a clock that the test moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tinyfaas import lastruns, schedules
from tinyfaas.lastruns import LastRuns
from tinyfaas.model import Answer, FunctionSpec, Request, Schedule
from tinyfaas.schedules import Schedules
from tinyfaas.timetable import Clock

NOON = 1_772_366_400.0  # 2026-03-01T12:00:00Z


class Device:
    """Two clocks, one function's schedules, and what is asked of the dispatcher."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock | None = None) -> None:
        self.now, self.wall = 1_000.0, NOON
        self.room = True
        self.asked: list[tuple[str, str]] = []
        self.requests: list[Request] = []
        self.schedules: tuple[Schedule, ...] = ()
        monkeypatch.setattr(schedules, "time", self)
        monkeypatch.setattr(lastruns, "time", self)
        self.file = path / "schedules.json"
        self._clock = clock or Clock(path, unsure_s=0.0)
        self.start()

    def start(self) -> None:
        """The server starts: what it knows is what is on disk."""
        self.runs = LastRuns(self.file)
        self.runs.load()
        self.room_of = Schedules(self._specs, self._submit, self.runs, self._clock)

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.wall

    def look(self, seconds: float = 0.0) -> list[tuple[str, str]]:
        """Let time go by and look; returns what was called in that look."""
        self.now += seconds
        self.wall += seconds
        self.asked.clear()
        self.room_of.look()
        return list(self.asked)

    def conclude(self, answer: Answer | None) -> None:
        """All that runs is over."""
        for request in self.requests:
            request.answer, request.settled = answer, True
        self.requests.clear()

    def written(self) -> dict[str, Any]:
        """What is on disk."""
        return dict(json.loads(self.file.read_text())) if self.file.exists() else {}

    def _specs(self) -> list[FunctionSpec]:
        return [cast("FunctionSpec", SimpleNamespace(name="f", wiring=SimpleNamespace(schedule=self.schedules)))]

    def _submit(self, function: str, payload: bytes, schedule: str) -> Request | None:
        if not self.room:
            return None
        self.asked.append((schedule, json.loads(payload)["args"][0]["time"]))
        assert json.loads(payload) == {"args": [{"schedule": schedule, "time": self.asked[-1][1]}]}
        self.requests.append(Request(f"faas/invoke/{function}", payload))
        return self.requests[-1]


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(tmp_path, monkeypatch)


DONE = Answer("", b"")


def test_what_is_due_is_called_with_its_name_and_time(device: Device) -> None:
    device.schedules = (Schedule(every_s=30.0), Schedule(cron="1 12 * * *", timezone="UTC"))
    assert device.look() == []
    assert device.look(30.0) == [("every 30 s", "2026-03-01T12:00:30.000Z")]
    device.conclude(DONE)
    assert device.look(31.0) == [
        ("every 30 s", "2026-03-01T12:01:00.000Z"), ("1 12 * * * UTC", "2026-03-01T12:01:00.000Z"),
    ]  # fmt: skip


def test_the_next_look_is_when_the_next_is_due(device: Device) -> None:
    assert device.room_of.wait_s(1.0) == 1.0
    device.schedules = (Schedule(every_s=30.0),)
    device.look()
    assert device.room_of.wait_s(1.0) == 1.0
    device.look(29.5)
    assert device.room_of.wait_s(1.0) == pytest.approx(0.5)
    device.now += 5.0
    assert 0 < device.room_of.wait_s(1.0) < 0.1


def test_a_run_that_is_not_over_keeps_the_next_out_unless_they_may_overlap(device: Device) -> None:
    device.schedules = (Schedule(every_s=10.0), Schedule(every_s=5.0, overlap=True))
    device.look()
    device.look(10.0)
    assert [name for name, _ in device.look(10.0)] == ["every 5 s"]
    device.conclude(DONE)
    assert [name for name, _ in device.look(10.0)] == ["every 10 s", "every 5 s"]


def test_where_there_is_no_room_a_run_is_left_out(device: Device) -> None:
    device.schedules = (Schedule(every_s=10.0),)
    device.look()
    device.room = False
    assert device.look(10.0) == []
    device.room = True
    assert [name for name, _ in device.look(10.0)] == ["every 10 s"]


def test_only_what_makes_up_for_a_downtime_is_written_and_not_at_every_run(device: Device) -> None:
    device.schedules = (Schedule(every_s=10.0), Schedule(every_s=60.0, missed="run_once"))
    device.look()
    assert device.written() == {"f": {"every 60 s": NOON}}
    for _ in range(5):
        device.look(60.0)
        device.conclude(DONE)
    assert device.written() == {"f": {"every 60 s": NOON}}
    device.look(300.0)
    assert device.written() == {"f": {"every 60 s": NOON + 300.0}}
    device.conclude(DONE)
    device.room_of.close()
    assert device.written() == {"f": {"every 60 s": NOON + 600.0}}
    device.schedules = (Schedule(every_s=60.0),)
    device.look()
    device.room_of.close()
    assert device.written() == {}


@pytest.mark.parametrize(("answer", "again"), [(DONE, 0), (None, 1)], ids=["answered", "dropped at the stop"])
def test_after_a_restart_a_run_that_was_dropped_is_run(device: Device, answer: Answer | None, again: int) -> None:
    device.schedules = (Schedule(cron="0 13 * * *", timezone="UTC", missed="run_once"),)
    device.look()
    assert len(device.look(3_600.0)) == 1
    device.conclude(answer)
    device.room_of.close()
    device.start()
    assert len(device.look(60.0)) == again
    assert device.look(60.0) == []


def test_a_new_version_with_the_same_times_goes_on_in_their_step(device: Device) -> None:
    device.schedules = (Schedule(every_s=30.0),)
    device.look()
    device.look(20.0)
    device.schedules = (Schedule(every_s=30.0, overlap=True), Schedule(every_s=25.0))
    device.look(5.0)
    assert [name for name, _ in device.look(5.0)] == ["every 30 s"]
    device.schedules = ()
    assert device.look(30.0) == []
    assert device.room_of.wait_s(1.0) == 1.0


def test_cron_waits_for_a_clock_to_be_believed_and_intervals_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = tmp_path / "synchronized"
    device = Device(tmp_path, monkeypatch, Clock(met, unsure_s=float("inf")))
    device.schedules = (Schedule(cron="* * * * *", timezone="UTC"), Schedule(every_s=45.0))
    device.look()
    assert [name for name, _ in device.look(90.0)] == ["every 45 s"]
    device.wall += 5 * 365 * 86_400.0
    met.touch()
    assert [name for name, _ in device.look(1.0)] == ["* * * * * UTC"]  # due since the start, by the right clock
    assert device.look(1.0) == []


def test_a_fault_in_here_is_logged_and_the_main_loop_goes_on(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    record: Callable[..., None] = lambda event, **_: said.append(event)  # noqa: E731
    monkeypatch.setattr(schedules.logger, "exception", record)
    device.schedules = (cast("Schedule", None),)
    device.look()
    assert said == ["schedules_failed"]
