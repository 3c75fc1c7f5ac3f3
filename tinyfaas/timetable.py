"""When a schedule is due, whatever the clocks do. Pure: who asks says what both clocks show.

`every_s` goes by the monotonic clock alone. Times of cron are times of the wall clock, which jumps: at the first
contact with a time server by years, at a correction by minutes, and back. What was due is then judged by how long ago
the last run was, which the monotonic clock knows: it is run if it fell between then and now, once, however often it
did; and not again if it was run a moment ago by the clock as that was before.
"""

from __future__ import annotations

import importlib
import math
import os
import time
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

from tinyfaas.model import Schedule

_JUMP_S = 2.0  # more than a clock gains or loses on its way from one look to the next
_MOMENT_S = 10_800.0  # a time that comes again within three hours was meant once, as cron has always seen it
_SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")
_UNSURE_S = 300.0  # after the boot; a device that never meets a time server goes by what clock it has
_LOCALTIME = Path("/etc/localtime")
_MEANT = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip


def name_of(schedule: Schedule) -> str:
    """What a schedule is called in events, records and answers; no two of a function have the same."""
    if schedule.cron:
        return f"{schedule.cron} {schedule.timezone}".rstrip()
    return f"every {schedule.every_s:g} s"


class Clock:
    """Whether the wall clock is to be believed: a Pi without a clock of its own begins somewhere in the past."""

    def __init__(self, synchronized: Path = _SYNCHRONIZED, unsure_s: float = _UNSURE_S) -> None:
        self._synchronized = synchronized
        self._unsure_s = unsure_s
        self._settled = False

    def settled(self) -> bool:
        """Whether a time server was met since the boot, or would have been by now."""
        if not self._settled:
            up_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            self._settled = up_s > self._unsure_s or self._synchronized.exists()
        return self._settled


class EverySeconds:
    """By the monotonic clock."""

    by_wall = False

    def __init__(self, every_s: float, now_s: float, wall_s: float, since_s: float | None) -> None:
        self._every_s = every_s
        gone_s = 0.0 if since_s is None else max(0.0, wall_s - since_s)
        self._next_s = now_s + max(0.0, every_s - gone_s)

    def due(self, now_s: float, wall_s: float) -> float | None:
        """The latest of the times that have come, if any has."""
        late_s = now_s - self._next_s
        if late_s < 0:
            return None
        steps = math.floor(late_s / self._every_s)
        self._next_s += (steps + 1) * self._every_s
        return wall_s - (late_s - steps * self._every_s)

    def next(self, now_s: float, wall_s: float) -> float | None:
        """What the wall clock will show then."""
        return wall_s + self._next_s - now_s


class Cron:
    """An expression of cron in its time zone. All times are seconds since the epoch."""

    def __init__(self, expression: str, timezone: str) -> None:
        """Raises `ValueError` for an expression or a zone that there is not, and for times that never come."""
        self._zone = _zone(timezone)
        self._expression = _MEANT.get(expression, expression)
        # Few functions need it: half a megabyte, which the others do without.
        self._library: Any = importlib.import_module("cronsim")
        try:
            never = self.next(time.mktime((2024, 1, 1, 0, 0, 0, 0, 0, 0))) is None
        except self._library.CronSimError as error:
            raise ValueError(f"{expression!r} is no time of cron: {error}") from None
        if never:
            raise ValueError(f"{expression!r} is a time that never comes")

    def next(self, after_s: float) -> float | None:
        """The first time after this one."""
        return self._step(math.floor(after_s), reverse=False)

    def last(self, until_s: float) -> float | None:
        """The last time that is no later than this one."""
        return self._step(math.floor(until_s) + 1, reverse=True)

    def _step(self, from_s: int, *, reverse: bool) -> float | None:
        try:
            start = datetime.fromtimestamp(from_s, self._zone)
            found: datetime = next(self._library.CronSim(self._expression, start, reverse=reverse))
        except (StopIteration, OverflowError, ValueError):  # beyond all calendars
            return None
        return found.timestamp()


class AtTimes:
    """By the wall clock, jumps and all."""

    by_wall = True

    def __init__(self, cron: Cron, now_s: float, wall_s: float, since_s: float | None) -> None:
        self._cron = cron
        self._ran_s = now_s  # monotonic, of the last run or of the beginning
        self._ran: float | None = None  # the time that the last run was for
        self._since_s = since_s
        self._ahead_s = wall_s - now_s
        self._next: float | None = None
        self._look(now_s, wall_s)

    def due(self, now_s: float, wall_s: float) -> float | None:
        """The latest of the times that have come, if any has."""
        jumped = abs(wall_s - now_s - self._ahead_s) > _JUMP_S
        self._ahead_s = wall_s - now_s
        if jumped:
            self._look(now_s, wall_s)
        if self._next is None or wall_s < self._next:
            return None
        came = max(self._next, self._cron.last(wall_s) or 0.0)
        self._ran, self._ran_s, self._since_s = came, now_s, None
        self._next = self._cron.next(max(came, wall_s))
        return came

    def next(self, now_s: float, wall_s: float) -> float | None:
        """The time that is waited for."""
        return self._next

    def _look(self, now_s: float, wall_s: float) -> None:
        """Find the time to wait for by what the clock shows now; one that has come already is due at once."""
        begin_s = wall_s - (now_s - self._ran_s)
        if self._since_s is not None:
            begin_s = min(begin_s, self._since_s)
        came = self._cron.last(wall_s)
        if came is not None and came > begin_s and not self._is_again(came, now_s, wall_s):
            self._next = came
            return
        self._next = self._cron.next(wall_s)
        if self._next is not None and self._is_again(self._next, now_s, wall_s):
            self._next = self._cron.next(self._next)

    def _is_again(self, at_s: float, now_s: float, wall_s: float) -> bool:
        """Whether this time comes a second time, and too soon after its run for both to be meant."""
        if self._ran is None or at_s > self._ran:
            return False
        apart_s = at_s - wall_s + now_s - self._ran_s
        following = self._cron.next(at_s)
        usual_s = math.inf if following is None else following - at_s
        return apart_s < min(_MOMENT_S, usual_s / 2)


# One schedule's times. `now_s` is monotonic; `wall_s` and what is returned are seconds of the wall clock.
Timetable = EverySeconds | AtTimes


def timetable(schedule: Schedule, now_s: float, wall_s: float, since_s: float | None) -> Timetable:
    """The timetable of a schedule, from now on; or from `since_s`, the last run before this start of the server."""
    if schedule.cron:
        return AtTimes(Cron(schedule.cron, schedule.timezone), now_s, wall_s, since_s)
    return EverySeconds(schedule.every_s, now_s, wall_s, since_s)


def _zone(name: str) -> tzinfo:
    """A time zone; without a name that of the device."""
    library: Any = importlib.import_module("zoneinfo")
    wanted = name or os.environ.get("TZ", "").removeprefix(":")
    if wanted:
        try:
            zone: tzinfo = library.ZoneInfo(wanted)
        except (KeyError, OSError, ValueError):
            if name:
                raise ValueError(f"{name!r} is no time zone that this device knows") from None
        else:
            return zone
    try:
        with _LOCALTIME.open("rb") as file:
            local: tzinfo = library.ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC
    return local
