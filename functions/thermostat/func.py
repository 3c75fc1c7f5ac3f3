"""A thermostat: says whether to heat, and remembers what it said.

Heating starts `hysteresis_c` below the target and stops `hysteresis_c` above it, so a relay does not chatter.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

STATE = Path(os.environ["TINYFAAS_STATE_DIR"]) / "state.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CLOCK_SET_S = 2.0  # wall and boot clock part by more than this only when the wall clock is set
COLDEST_C, HOTTEST_C = -273.15, 1000.0

Decision = dict[str, bool | str | float | None]


@dataclass(frozen=True)
class Moment:
    """A moment by two clocks: a Pi's wall clock jumps when the network tells the time, the other never."""

    wall_s: float  # since 1970
    boot_s: float  # since the boot
    boot_id: str  # which boot; empty if it can't be told

    def seconds_until(self, now: Moment) -> float | None:
        """Seconds from this moment to `now`; None over a reboot, when no clock ran that can be trusted."""
        return now.boot_s - self.boot_s if self.boot_id and self.boot_id == now.boot_id else None

    def corrected(self, now: Moment) -> Moment:
        """The same moment, with the wall time it would have got from today's clock."""
        passed_s = self.seconds_until(now)
        if passed_s is None or abs(now.wall_s - passed_s - self.wall_s) < CLOCK_SET_S:
            return self
        return replace(self, wall_s=now.wall_s - passed_s)

    def __str__(self) -> str:
        return f"{datetime.fromtimestamp(self.wall_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True)
class State:
    """What was said last, and since when."""

    heating: bool
    since: Moment


def main(temperature_c: float, target_c: float = 20.0, hysteresis_c: float = 0.5) -> Decision:
    """Decide by a temperature in °C; what is not a temperature is refused and changes nothing."""
    temperature_c, target_c = celsius("temperature_c", temperature_c), celsius("target_c", target_c)
    hysteresis_c = celsius("hysteresis_c", hysteresis_c, low=0.0)
    now, before = moment(), remembered()
    was_heating = before is not None and before.heating
    heating = temperature_c < (target_c + hysteresis_c if was_heating else target_c - hysteresis_c)
    if before is None or heating != before.heating:
        after = State(heating, since=now)
    else:
        after = State(heating, since=before.since.corrected(now))
    if after != before:  # seldom: an SD card wears with every write
        remember(after)
    passed_s = after.since.seconds_until(now)
    return {
        "heating": heating,
        "changed": after.since is now,
        "since": str(after.since),
        "for_s": None if passed_s is None else round(passed_s, 1),
    }


def celsius(name: str, value: object, low: float = COLDEST_C) -> float:
    """A number of degrees Celsius, neither NaN nor what a broken sensor makes of itself."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= HOTTEST_C:
        raise ValueError(f"{name} must be a number from {low:g} to {HOTTEST_C:g}, not {value!r:.40}")
    return float(value)


def moment() -> Moment:
    """Now."""
    try:
        boot_id = BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot_id = ""
    return Moment(round(time.time(), 3), round(time.clock_gettime(time.CLOCK_BOOTTIME), 3), boot_id)


def remembered() -> State | None:
    """What was said last; None at the first call, or if a power cut spoiled the file."""
    try:
        said = json.loads(STATE.read_text(encoding="utf-8"))
        since = said["since"]
        return State(
            heating=said["heating"] is True,
            since=Moment(float(since["wall_s"]), float(since["boot_s"]), str(since["boot_id"])),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remember(state: State) -> None:
    """Keep the state, written beside and then renamed, so that there is a whole file at every moment."""
    beside = STATE.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as out:
        json.dump(asdict(state), out)
        out.flush()
        os.fsync(out.fileno())  # the new name must not reach the card before what it names
    beside.replace(STATE)
