"""Sums up each day: how warm every room was. Collects what the chain says by day, and tells it at night."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

ZONE = ZoneInfo(os.environ.get("ZONE", "Europe/Berlin"))
KEPT_DAYS = 7

TABLES = """
    CREATE TABLE IF NOT EXISTS reading (
        room TEXT, time TEXT, day TEXT, celsius REAL, PRIMARY KEY (room, time)  -- so each counts once
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS told (day TEXT PRIMARY KEY);
"""

Summary = dict[str, Any]


def main(event: list[dict[str, Any]] | dict[str, Any] | None = None, *, context: Any) -> Any:
    """Called with a batch of temperatures, and by the schedule; without either: the newest day so far."""
    with closing(opened(context.state / "readings.db")) as db:
        if isinstance(event, list):
            return collect(db, [each["payload"] for each in event])
        if event is None:
            day = db.execute("SELECT max(day) FROM reading").fetchone()[0]
            return summary(db, day) if day else None
        due = datetime.fromisoformat(event["time"]).astimezone(ZONE).date()
        return [tell(db, day, context) for day in untold(db, due)]


def collect(db: sqlite3.Connection, readings: list[dict[str, Any]]) -> int:
    """Keep readings; returns how many of them are new."""
    rows = [(each["room"], each["time"], local_day(each["time"]), each["celsius"]) for each in readings]
    with db:  # all or none: one write to the SD card for a whole batch
        return db.executemany("INSERT OR IGNORE INTO reading VALUES (?, ?, ?, ?)", rows).rowcount


def local_day(time: str) -> str:
    """The day that people there call it."""
    return datetime.fromisoformat(time).astimezone(ZONE).date().isoformat()


def untold(db: sqlite3.Connection, due: date) -> list[str]:
    """The days that are over and not told yet: one, or more after nights without power."""
    days = "SELECT DISTINCT day FROM reading WHERE day < ? AND day NOT IN (SELECT day FROM told) ORDER BY day"
    return [day for (day,) in db.execute(days, (due.isoformat(),))]


def tell(db: sqlite3.Connection, day: str, context: Any) -> Summary:
    """Publish a day's summary, and forget the days of long ago."""
    said = summary(db, day)
    context.publish("house/summary", said, qos=1, retain=True)
    with db:
        db.execute("INSERT INTO told VALUES (?)", (day,))
        db.execute("DELETE FROM reading WHERE day < date(?, ?)", (day, f"-{KEPT_DAYS} days"))
    return said


def summary(db: sqlite3.Connection, day: str) -> Summary:
    """Of each room how many readings, the mean, and the lowest and highest."""
    rows = db.execute(
        "SELECT room, count(*), avg(celsius), min(celsius), max(celsius) FROM reading WHERE day = ? GROUP BY room",
        (day,),
    )
    rooms = {
        room: {"readings": count, "mean_c": round(mean, 1), "low_c": low, "high_c": high}
        for room, count, mean, low, high in rows
    }
    return {"day": day, "rooms": rooms}


def opened(file: Path) -> sqlite3.Connection:
    """The database, with its tables."""
    db = sqlite3.connect(file)
    db.executescript(TABLES)
    return db
