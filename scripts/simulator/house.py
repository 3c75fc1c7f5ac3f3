"""What the sensors of a house say, and when: a stream of messages that its seed decides alone.

Four rooms with thermometers of several rates, which follow the day, and at times are silent, wild, or say what nobody
can read. In every two hours one room gets too hot for a while. Beside them hygrometers, an electricity meter, a door, a
washing machine and a camera.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)  # in the past, whatever clock the Pi has
HOUR_S, DAY_S = 3600.0, 86400.0
SLOT_S = 2 * HOUR_S  # each has one spike
APART = 6  # readings between two wild ones of a sensor, and before the first

BAD = (b"", b"21,5", b"{", b'{"celsius": 21.', b"NaN", b"ERR", b"\xff\xfe\x00")  # no JSON
ODD = (b"null", b'"unavailable"', b'{"celsius": null}', b"[21.5]", b"-999")  # JSON, and no temperature
WILD_C = (85.0, -127.0)  # what a DS18B20 says when it was not ready, or not there


@dataclass(frozen=True, slots=True)
class Message:
    """Something a sensor publishes, `at_s` seconds after `BEGIN`; `kind` is what it is counted as."""

    at_s: float
    kind: str
    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """A room's usual temperature, how far that follows the day, and the seconds between two readings."""

    name: str
    usual_c: float
    swing_c: float
    every_s: float


ROOMS = (
    Room("kitchen", 21, 1.5, 120),
    Room("living", 22, 1, 180),
    Room("bedroom", 18, 1, 300),
    Room("attic", 23, 3, 300),
)


@dataclass(frozen=True, slots=True)
class Spike:
    """A room too hot for about half an hour: an oven, a stove, the sun on the roof."""

    room: str
    begin_s: float
    end_s: float
    rise_c: float

    def at(self, at_s: float) -> float:
        """How much warmer it makes the room: quickly, and then slowly less."""
        if at_s < self.begin_s:
            return 0.0
        return self.rise_c * min(1.0, (at_s - self.begin_s) / 300, math.exp((self.end_s - at_s) / 360))

    def near(self, at_s: float) -> bool:
        """Whether it is about to begin, or not yet forgotten."""
        return self.begin_s - 600 <= at_s <= self.end_s + 2400


def spike_of(seed: str, at_s: float) -> Spike:
    """The spike of the slot in which this moment lies: its end is over long before the next slot."""
    slot = int(at_s // SLOT_S)
    dice = Random(f"{seed}/spike/{slot}")
    begin_s = slot * SLOT_S + dice.uniform(900, 1800)
    return Spike(dice.choice(ROOMS).name, begin_s, begin_s + dice.uniform(1800, 2400), dice.uniform(16, 22))


def house(seed: str) -> Iterator[Message]:
    """All that is published, in order, without end."""
    sensors = [thermometer(seed, room) for room in ROOMS] + [hygrometer(seed, room) for room in ROOMS]
    sensors += [meter(seed), door(seed), washer(seed), camera(seed)]
    return heapq.merge(*sensors, key=lambda message: message.at_s)


def thermometer(seed: str, room: Room) -> Iterator[Message]:
    """Readings at QoS 1 with their time; now and then one is wild, bad or odd, comes twice, or not at all."""
    dice, topic = Random(f"{seed}/thermometer/{room.name}"), f"sensors/{room.name}/temperature"
    at_s, since_wild = dice.uniform(0, room.every_s), 0
    while True:
        spike, luck = spike_of(seed, at_s), dice.random()
        heated = spike.room == room.name and spike.near(at_s)
        said_c = room.usual_c + daily(at_s, room.swing_c) + (spike.at(at_s) if heated else 0) + dice.gauss(0, 0.1)
        kind, payload, since_wild = "temperature", b"", since_wild + 1
        if luck < 0.01:
            kind, payload = "bad", dice.choice(BAD)
        elif luck < 0.02:
            kind, payload = "odd", dice.choice(ODD)
        elif luck < 0.04 and since_wild > APART:
            kind, said_c, since_wild = "wild", dice.choice(WILD_C), 0
        message = Message(at_s, kind, topic, payload or reading(said_c, at_s))
        yield message
        if 0.04 <= luck < 0.05:
            yield Message(at_s, "repeat", topic, message.payload)
        if 0.05 <= luck < 0.06 and not heated:
            yield Message(at_s, "state", f"sensors/{room.name}/status", b"offline", retain=True)
            at_s += dice.randint(3, 12) * room.every_s
            yield Message(at_s, "state", f"sensors/{room.name}/status", b"online", retain=True)
        at_s += room.every_s * dice.uniform(0.98, 1.02)


def reading(celsius: float, at_s: float) -> bytes:
    """What a thermometer says."""
    time = BEGIN + timedelta(milliseconds=round(at_s * 1000))
    return json.dumps({"celsius": round(celsius, 2), "time": f"{time:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"}).encode()


def daily(at_s: float, swing: float) -> float:
    """What the time of the day adds: most at four in the afternoon."""
    return swing * math.cos((at_s / HOUR_S - 16) / 24 * 2 * math.pi)


def hygrometer(seed: str, room: Room) -> Iterator[Message]:
    """Per cent as a bare number, at QoS 0."""
    dice = Random(f"{seed}/hygrometer/{room.name}")
    for at_s in every(300, dice):
        percent = 50 - daily(at_s, 5) + dice.gauss(0, 0.5)
        yield Message(at_s, "humidity", f"sensors/{room.name}/humidity", f"{percent:.1f}".encode(), qos=0)


def meter(seed: str) -> Iterator[Message]:
    """Watts, often, at QoS 0."""
    dice = Random(f"{seed}/meter")
    for at_s in every(30, dice):
        watts = 300 + max(0, daily(at_s, 200)) + 2000 * (spike_of(seed, at_s).at(at_s) > 10) + dice.gauss(0, 20)
        yield Message(at_s, "power", "sensors/meter/power", json.dumps({"watts": round(watts)}).encode(), qos=0)


def door(seed: str) -> Iterator[Message]:
    """Open or closed, a retained state."""
    dice = Random(f"{seed}/door")
    at_s, states = 0.0, (b"closed", b"open")
    while True:
        for state in states:
            yield Message(at_s, "state", "sensors/frontdoor/contact", state, retain=True)
            at_s += dice.uniform(10, 90) if state == b"open" else dice.expovariate(1 / (1.5 * HOUR_S))


def washer(seed: str) -> Iterator[Message]:
    """A second of vibration in each minute of a wash, twice a day; its bearing is heard in some of them."""
    dice = Random(f"{seed}/washer")
    for at_s in every(60, dice):
        hour = at_s % DAY_S / HOUR_S
        if 10 <= hour < 11.5 or 18 <= hour < 19:
            worn = 0.1 * (Random(f"{seed}/wash/{at_s // (DAY_S / 2):.0f}").random() < 0.25)
            g = [
                round(0.5 * math.sin(math.tau * 14 * n / 256) + worn * math.sin(math.tau * 90 * n / 256)
                      + dice.gauss(0, 0.01), 3) for n in range(256)
            ]  # fmt: skip
            yield Message(at_s, "vibration", "sensors/washer/vibration", json.dumps({"hz": 256, "g": g}).encode())


def camera(seed: str) -> Iterator[Message]:
    """A grey picture of 1.3 MB, with somebody in it now and then."""
    dice, width, height = Random(f"{seed}/camera"), 1296, 972
    for at_s in every(1.5 * HOUR_S, dice):
        light = 0.5 + daily(at_s, 0.4)
        row = bytes(int(light * (64 + 128 * x / width)) for x in range(width))
        rows = [row] * height
        if dice.random() < 0.5:
            left = dice.randrange(width - 300)
            rows[300:900] = [row[:left] + bytes(300) + row[left + 300 :]] * 600
        yield Message(at_s, "picture", "sensors/porch/picture", b"P5 %d %d 255\n" % (width, height) + b"".join(rows))


def every(seconds: float, dice: Random) -> Iterator[float]:
    """Moments that lie so far apart, the first of them at random."""
    at_s = dice.uniform(0, seconds)
    while True:
        yield at_s
        at_s += seconds
