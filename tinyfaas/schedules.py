"""Calls functions when their schedules are due. The main loop looks here; there is no thread for it.

What is due goes the way of every invocation; what became of it is seen at a later look.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tinyfaas import log
from tinyfaas.lastruns import LastRuns
from tinyfaas.model import FunctionSpec, Request, Schedule
from tinyfaas.protocol import encode, iso_time
from tinyfaas.timetable import Clock, Timetable, name_of, timetable

logger = log.get("schedules")

Submit = Callable[[str, bytes, str], Request | None]
_SOON_S = 0.05  # no look sooner than that after another


class _Entry:
    """One schedule of one function. `out` are its runs that are not over, each with the time it was due."""

    def __init__(self, function: str, name: str, schedule: Schedule, times: Timetable) -> None:
        self.function = function
        self.name = name
        self.schedule = schedule
        self.times = times
        self.out: list[tuple[float, Request]] = []
        self.said = False

    @property
    def makes_up(self) -> bool:
        """Whether what a downtime swallowed is run."""
        return self.schedule.missed == "run_once"


class Schedules:
    """The schedules of all functions. `submit` queues a call, and returns None where there is no room for it."""

    def __init__(
        self, specs: Callable[[], list[FunctionSpec]], submit: Submit, runs: LastRuns, clock: Clock | None = None
    ) -> None:
        self._specs = specs
        self._submit = submit
        self._runs = runs
        self._clock = clock or Clock()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._look_s = 0.0

    def look(self) -> None:
        """Call what is due. Never raises."""
        try:
            self._look(time.monotonic(), time.time())
        except Exception:  # the main loop has other things to see to
            logger.exception("schedules_failed")

    def wait_s(self, most_s: float) -> float:
        """Seconds until the next look is worth it, `most_s` at most."""
        return max(_SOON_S, min(most_s, self._look_s - time.monotonic())) if self._entries else most_s

    def upcoming(self, spec: FunctionSpec) -> list[dict[str, Any]]:
        """The schedules of a function and when each is due next, for `info`; from any thread."""
        now_s, wall_s = time.monotonic(), time.time()
        shown = []
        for schedule in spec.wiring.schedule:
            entry = self._entries.get((spec.name, name_of(schedule)))
            times = entry.times if entry else timetable(schedule, now_s, wall_s, None)  # new a moment ago
            at_s = times.next(now_s, wall_s)
            shown.append({"schedule": name_of(schedule), "next": None if at_s is None else iso_time(at_s)})
        return shown

    def close(self) -> None:
        """Write down what ran."""
        for entry in self._entries.values():
            self._settle(entry)
        self._runs.write(at_once=True)

    def _look(self, now_s: float, wall_s: float) -> None:
        self._follow(now_s, wall_s)
        if not self._entries:
            self._runs.write()
            return
        settled = self._clock.settled()
        soonest_s = now_s + 3600.0
        for entry in self._entries.values():
            self._settle(entry)
            if entry.times.by_wall and not settled:
                continue
            if (due_s := entry.times.due(now_s, wall_s)) is not None:
                self._call(entry, due_s)
            if (next_s := entry.times.next(now_s, wall_s)) is not None:
                soonest_s = min(soonest_s, now_s + next_s - wall_s)
        self._look_s = soonest_s
        self._runs.write()

    def _follow(self, now_s: float, wall_s: float) -> None:
        """Take up new schedules, and let go of those that no current version has any more."""
        wanted = {
            (spec.name, name_of(schedule)): schedule
            for spec in self._specs()
            if spec.wiring.schedule
            for schedule in spec.wiring.schedule
        }
        for key in self._entries.keys() - wanted.keys():
            del self._entries[key]
        for key in self._runs.known():
            if key not in wanted or wanted[key].missed != "run_once":
                self._runs.forget(*key)
        for key, schedule in wanted.items():
            entry = self._entries.get(key)
            if entry is not None:
                entry.schedule = schedule  # a new version with the same times goes on in their step
                continue
            since_s = self._runs.of(*key) if schedule.missed == "run_once" else None
            self._entries[key] = _Entry(*key, schedule, timetable(schedule, now_s, wall_s, since_s))
            if schedule.missed == "run_once" and since_s is None:
                self._runs.note(*key, wall_s)

    def _settle(self, entry: _Entry) -> None:
        """See which of its runs are over, and note the last for after a restart."""
        for run in [run for run in entry.out if run[1].settled]:
            entry.out.remove(run)
            entry.said = False
            due_s, request = run
            if request.answer is not None and entry.makes_up:  # without an answer it was dropped at a stop
                self._runs.note(entry.function, entry.name, due_s)

    def _call(self, entry: _Entry, due_s: float) -> None:
        if entry.out and not entry.schedule.overlap:
            if not entry.said:
                entry.said = True
                logger.warning("schedule_overlaps", function=entry.function, schedule=entry.name)
            return
        event = {"schedule": entry.name, "time": iso_time(due_s)}
        request = self._submit(entry.function, encode({"args": [event]}), entry.name)
        if request is None:
            logger.warning("schedule_has_no_room", function=entry.function, schedule=entry.name)
            return
        entry.out.append((due_s, request))
