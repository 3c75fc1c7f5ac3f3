"""Tells whether a sensor's reading is out of the ordinary, judged by the readings before it.

Median and quartiles say what is ordinary: outliers hardly move them, so a spike does not hide the next one.
Every reading counts for the later ones, also an anomalous one: a change that lasts becomes ordinary.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from sortedcontainers import SortedList  # type: ignore[import-untyped]

STATE_DIR = Path(os.environ["TINYFAAS_STATE_DIR"])
LENGTH = 1440  # readings remembered of a sensor: a day, at one a minute
FEWEST = 20  # readings before the first verdict
LARGEST = 1e15  # reading, up or down
MOST_SENSORS = 100  # more are refused: whoever may publish could fill memory and disk with names
SENSOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,62}")
SIGMAS_BETWEEN_QUARTILES = 1.349  # in a normal distribution

Verdict = dict[str, str | float | bool | None]


def main(value: float, sensor: str = "default", threshold: float = 3.5, resolution: float = 0.001) -> Verdict:
    """Judge a reading, then remember it.

    `value` is in whatever unit the sensor has, and so is `resolution`, the smallest step that means anything;
    `threshold` says how many standard deviations from the median are still ordinary.
    """
    reading = number("value", value)
    threshold = number("threshold", threshold, low=0.0)
    resolution = number("resolution", resolution, low=1e-9)
    window = window_of(sensor)
    verdict = judge(reading, window, threshold, resolution)
    window.add(reading)
    return {"sensor": sensor, "value": reading, **verdict}


def number(name: str, value: object, low: float = -LARGEST) -> float:
    """A number, neither NaN nor so large that what is computed from it would be infinite."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= LARGEST:
        raise ValueError(f"{name} must be a number from {low:g} to {LARGEST:g}, not {value!r:.40}")
    return float(value)


@lru_cache(maxsize=MOST_SENSORS)
def window_of(sensor: str) -> Window:
    """The sensor's window: in memory while the worker is warm, from its file after a restart."""
    if not isinstance(sensor, str) or not SENSOR.fullmatch(sensor):
        raise ValueError(f"sensor must match {SENSOR.pattern}, not {sensor!r:.40}")
    file = STATE_DIR / f"{quote(sensor, safe='')}.readings"
    if not file.exists() and len(list(STATE_DIR.glob("*.readings"))) >= MOST_SENSORS:
        raise ValueError(f"{sensor} is one sensor too many: {MOST_SENSORS} are known")
    return Window(file)


def judge(reading: float, window: Window, threshold: float, resolution: float) -> Verdict:
    """Whether a reading is an anomaly, why, and the figures behind it."""
    if len(window) < FEWEST:
        reason = f"learning: {len(window)} of {FEWEST} readings"
        figures = dict.fromkeys(("score", "median", "low", "high"))
        return {"anomaly": False, "reason": reason, **figures, "readings": len(window)}
    median = window.quantile(0.5)
    spread = (window.quantile(0.75) - window.quantile(0.25)) / SIGMAS_BETWEEN_QUARTILES
    sigma = max(spread, resolution)  # a steady sensor has no spread at all
    score = (reading - median) / sigma
    low, high = tidy(median - threshold * sigma), tidy(median + threshold * sigma)
    where = "above" if score > threshold else "below" if score < -threshold else "within"
    return {
        "anomaly": where != "within",
        "reason": f"{tidy(reading)} is {where} the ordinary {low} to {high}",
        "score": round(score, 2),
        "median": median,
        "low": low,
        "high": high,
        "readings": len(window),
    }


def tidy(value: float) -> float:
    """A number to show, without the dust of floating-point arithmetic."""
    return float(f"{value:.7g}")


class Window:
    """The latest readings of one sensor, in their order and by size, and in a file.

    The file holds one reading a line. It is appended to, and rewritten only when it is twice as long as
    needed: writing a whole file for each reading would wear out an SD card.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._latest = deque(remembered(file), maxlen=LENGTH)
        # Kept sorted, so that a reading costs a few steps and not the sorting of a whole day.
        self._by_size = SortedList(self._latest)
        self._rewrite()  # without a line that a power cut tore: the next one would be appended to it

    def __len__(self) -> int:
        return len(self._latest)

    def quantile(self, part: float) -> float:
        """The reading below which this part of them lies: 0.5 is the median."""
        return float(self._by_size[round(part * (len(self) - 1))])

    def add(self, reading: float) -> None:
        """Take in a reading; the oldest goes when the window is full."""
        if len(self) == LENGTH:
            self._by_size.remove(self._latest[0])
        self._latest.append(reading)
        self._by_size.add(reading)
        if self._lines == 2 * LENGTH:
            self._rewrite()
        else:
            self._append(reading)

    def _append(self, reading: float) -> None:
        with self._file.open("a", encoding="ascii") as out:
            out.write(f"{reading}\n")
        self._lines += 1

    def _rewrite(self) -> None:
        beside = self._file.with_suffix(".new")
        with beside.open("w", encoding="ascii") as out:
            out.writelines(f"{reading}\n" for reading in self._latest)
            out.flush()
            os.fsync(out.fileno())  # the new name must not reach the card before what it names
        beside.replace(self._file)
        self._lines = len(self)


def remembered(file: Path) -> Iterator[float]:
    """The readings in a file, without lines that a power cut spoiled."""
    with suppress(FileNotFoundError):
        for line in file.read_text(encoding="ascii", errors="replace").split("\n")[:-1]:
            with suppress(ValueError):
                yield number("reading", float(line))
