"""Tells people, and a fan, that a room has become too hot or is fine again: once each, whatever comes again."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

Rooms = dict[str, dict[str, Any]]


def main(event: dict[str, Any] | None = None, *, context: Any) -> list[str]:
    """Called with the house when it has changed; returns what it told. Without that: which rooms are too hot."""
    file = context.state / "told.json"
    told = remembered(file)
    if event is None:
        return [room for room, each in told.items() if each["hot"]]
    messages = []
    for room, now in event["payload"].items():
        before = told.get(room, {"hot": False, "since": ""})
        if now["since"] <= before["since"]:
            continue  # known: a restart may have everything said again
        if now["hot"] != before["hot"]:
            messages.append(tell(room, now, context))
        told[room] = now
        remember(file, told)  # after it was told: what a crash comes between is told twice, rather than not at all
    return messages


def tell(room: str, now: dict[str, Any], context: Any) -> str:
    """Publish the message for people, and switch the fan; returns the message."""
    how = "is too hot" if now["hot"] else "is fine again"
    message = f"{room} {how}: {now['celsius']:.1f} °C at {now['since']}"
    publish("house/messages", message, context)
    publish(f"actuators/{room}/fan", {"on": now["hot"], "since": now["since"]}, context)
    context.log.warning(message, room=room, celsius=now["celsius"])
    return message


def publish(topic: str, payload: Any, context: Any) -> None:
    """Publish; while the broker is away, wait for it as long as this call may."""
    while True:
        try:
            context.publish(topic, payload, qos=1)
            return
        except context.Unavailable:
            if context.seconds_left() < 10:
                raise
            time.sleep(1)


def remembered(file: Path) -> Rooms:
    """What was told of each room last."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def remember(file: Path, told: Rooms) -> None:
    """Written beside and then renamed, so that there is a whole file at every moment."""
    beside = file.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as out:
        json.dump(told, out)
        out.flush()
        os.fsync(out.fileno())  # the new name must not reach the card before what it names
    beside.replace(file)
