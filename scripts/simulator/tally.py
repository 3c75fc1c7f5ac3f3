"""Counts what was sent, by kind, and the spikes that whoever listens must have seen."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from scripts.simulator.house import Message

HOT_C, FINE_C = 31.0, 27.0  # what is far enough beyond a threshold of 30 and of 28
SURE = 3  # readings in a row: the median of five follows


class Tally:
    """`report` says what was sent so far."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.bytes = 0
        self.until_s = 0.0
        self.begun = self.over = 0
        self._hot: dict[str, bool] = {}
        self._in_a_row: Counter[str] = Counter()

    def add(self, message: Message) -> None:
        """This was sent."""
        self.sent[message.kind] += 1
        self.bytes += len(message.payload)
        self.until_s = message.at_s
        if message.kind == "temperature":
            self._follow(message.topic, float(json.loads(message.payload)["celsius"]))

    def report(self) -> dict[str, Any]:
        """Messages by kind; seconds of the house; spikes of which enough was sent to tell them."""
        return {
            "messages": sum(self.sent.values()),
            "bytes": self.bytes,
            "house_s": round(self.until_s, 3),
            "sent": dict(sorted(self.sent.items())),
            "spikes": {"begun": self.begun, "over": self.over},
        }

    def _follow(self, sensor: str, celsius: float) -> None:
        hot = self._hot.setdefault(sensor, False)
        changing = celsius <= FINE_C if hot else celsius >= HOT_C
        self._in_a_row[sensor] = self._in_a_row[sensor] + 1 if changing else 0
        if self._in_a_row[sensor] == SURE:
            self._hot[sensor], self._in_a_row[sensor] = not hot, 0
            self.begun += not hot
            self.over += hot
