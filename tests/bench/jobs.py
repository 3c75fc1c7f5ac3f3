"""What a load is, and what came of it."""

from __future__ import annotations

import json
import math
from array import array
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Job:
    """A load on one topic, whose answers come on another.

    Closed: `in_flight` requests are unanswered at any time. Open: `rate` requests a second are sent, whatever comes
    back, and a latency counts from the moment at which its request was due. It ends after `count` requests, or, with
    none given, after `warmup_s` that is not counted and `duration_s` that is.
    """

    port: int
    request_topic: str
    answer_topic: str
    in_flight: int = 1
    rate: float = 0.0
    qos: int = 1
    args: str = '"x"'  # JSON, without the brackets around it
    size: int = 0  # bytes of the whole request: a string of this length, in place of `args`
    warmup_s: float = 0.5
    duration_s: float = 2.0
    count: int = 0
    patience_s: float = 40.0  # without any answer, after which the rest is lost; longer than a call may take
    linger_s: float = 0.1  # for answers that come twice

    def to_json(self) -> bytes:
        """For the generator's stdin."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True)
class Outcome:
    """What came of a load. `lost`, `doubled` and `failed` are of all requests, the rest without the warm-up."""

    sent: int
    lost: int
    doubled: int
    failed: int  # answers with status error
    strays: int  # messages that belong to no request of this load
    seconds: float
    answered: int  # within those seconds
    lag_s: float  # how late the generator itself sent, at its 99th percentile (open loop)
    busy: float = 0.0  # share of the time the generator itself computed: near 1, it was the limit
    latencies_s: array[float] = field(default_factory=lambda: array("d"), repr=False)  # sorted

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds if self.seconds > 0 else 0.0

    def percentile_s(self, percent: float) -> float:
        """The latency that this share of the requests did not exceed; NaN without answers."""
        return percentile(self.latencies_s, percent)

    def complaints(self) -> str:
        """What went wrong, in words; empty if nothing."""
        counts = {"lost": self.lost, "doubled": self.doubled, "failed": self.failed}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)

    def dump(self) -> bytes:
        """One line of JSON, then the latencies as doubles."""
        numbers = {name: value for name, value in vars(self).items() if name != "latencies_s"}
        return json.dumps(numbers).encode() + b"\n" + self.latencies_s.tobytes()


def read_outcome(data: bytes) -> Outcome:
    """What `dump` wrote."""
    head, _, rest = data.partition(b"\n")
    latencies = array("d")
    latencies.frombytes(rest)
    numbers: dict[str, Any] = json.loads(head)
    return Outcome(**numbers, latencies_s=latencies)


def percentile(ordered: array[float] | list[float], percent: float) -> float:
    """By nearest rank: one of the values, and never less than was seen; NaN if there are none."""
    if not ordered:
        return math.nan
    rank = math.ceil(round(percent / 100 * len(ordered), 9))  # 99.9 of 1000 is 999, whatever floats say
    return ordered[min(len(ordered), max(1, rank)) - 1]


def middle(values: list[float]) -> float:
    """The median; NaN if there are none."""
    return median(values) if values else math.nan
