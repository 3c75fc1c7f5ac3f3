"""Makes a steady temperature of what a sensor says: the median of its last five readings.

A thermometer with a loose wire says 85.0 or -127.0 now and then; that moves the median by nothing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

LENGTH = 5  # readings: two wild ones among them are outvoted
MOST_ROOMS = 100  # more are refused: whoever may publish could fill the disk with names
COLDEST_C, HOTTEST_C = -273.15, 1000.0

Steady = dict[str, str | float]


def main(event: dict[str, Any] | None = None, *, context: Any) -> Steady | None:
    """Called with each reading; what it returns goes on to the output's topic. Without one: what went on last."""
    file = context.state / "rooms.json"
    rooms = remembered(file)
    if event is None:
        return max((lately[-1]["steady"] for lately in rooms.values()), key=lambda each: each["time"], default=None)
    (room,) = event["wildcards"]
    celsius, time = reading(event)
    lately = rooms.setdefault(room, [])
    for known in lately:
        if known["steady"]["time"] == time:  # it is delivered again, perhaps after a crash: so is what came of it
            return known["steady"]
    if lately and time < lately[-1]["steady"]["time"]:
        return None  # from long ago
    if len(rooms) > MOST_ROOMS:
        raise ValueError(f"{room} is one room too many: {MOST_ROOMS} are known")
    raw = [known["raw"] for known in lately[1 - LENGTH :]] + [celsius]
    steady = {"room": room, "celsius": round(median(raw), 2), "time": time}
    rooms[room] = [*lately, {"raw": celsius, "steady": steady}][-LENGTH:]
    remember(file, rooms)
    return steady


def reading(event: dict[str, Any]) -> tuple[float, str]:
    """Degrees Celsius and the time in UTC; the payload is `{"celsius": 21.5, "time": "…Z"}`, or just 21.5."""
    payload = event["payload"]
    said = payload if isinstance(payload, dict) else {"celsius": payload}
    celsius = said.get("celsius")
    if not isinstance(celsius, int | float) or isinstance(celsius, bool) or not COLDEST_C <= celsius <= HOTTEST_C:
        raise ValueError(f"celsius must be a number from {COLDEST_C:g} to {HOTTEST_C:g}, not {celsius!r:.40}")
    moment = datetime.fromisoformat(str(said.get("time") or event["received"]))
    return float(celsius), f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def remembered(file: Path) -> dict[str, list[dict[str, Any]]]:
    """The last readings of each room; none at the first call, or if a power cut spoiled the file."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def remember(file: Path, rooms: dict[str, list[dict[str, Any]]]) -> None:
    """Written beside and then renamed, so that there is a whole file at every moment."""
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(rooms), encoding="utf-8")
    beside.replace(file)
