"""Knows which rooms are too hot. A room becomes so at `HOT_C` and is fine again at `COOL_C`: between the two it stays.

Its result is the whole house, and is the same until a room changes: with `on = "change"` only that is published.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

HOT_C = float(os.environ.get("HOT_C", "30"))
COOL_C = float(os.environ.get("COOL_C", "28"))

Rooms = dict[str, dict[str, Any]]


def main(event: dict[str, Any] | None = None, *, context: Any) -> Rooms:
    """Called with each steady temperature; returns of each room whether it is too hot, since when, and at how much."""
    file = context.state / "rooms.json"
    rooms = remembered(file)
    if event is None:
        return rooms
    room, celsius, time = (event["payload"][key] for key in ("room", "celsius", "time"))
    known = rooms.get(room)
    if known is not None and time <= known["since"]:
        return rooms  # late, or delivered again
    was_hot = known is not None and known["hot"]
    hot = celsius > COOL_C if was_hot else celsius >= HOT_C
    if known is None or hot != was_hot:  # seldom: an SD card wears with every write
        rooms[room] = {"hot": hot, "since": time, "celsius": celsius}
        remember(file, rooms)
    return rooms


def remembered(file: Path) -> Rooms:
    """What was said last; nothing at the first call, or if a power cut spoiled the file."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def remember(file: Path, rooms: Rooms) -> None:
    """Written beside and then renamed, so that there is a whole file at every moment."""
    beside = file.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as out:
        json.dump(rooms, out)
        out.flush()
        os.fsync(out.fileno())  # the new name must not reach the card before what it names
    beside.replace(file)
