"""The things that pass between rooms: what a function is, what a request is, what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyfaas import topics
from tinyfaas.fields import setting

VARIABLE = r"(?!TINYFAAS_)[A-Za-z_][A-Za-z0-9_]{0,63}"
FUNCTION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one function may use. The configuration holds the defaults, a function's settings override them."""

    timeout_s: float = setting(30.0, "Seconds one call may run before its worker is killed.", low=0.05, high=86400.0)
    concurrency: int = setting(0, "Calls that may run at once; 0: all dispatch threads but one.", low=0, high=256)
    min_warm: int = setting(0, "Workers kept warm at all times, so that no call waits for a start.", low=0, high=64)
    max_payload_bytes: int = setting(1_048_576, "Largest request in bytes.", low=64, high=268_435_455)
    memory_mb: int = setting(128, "Memory in MiB that its processes may use, /tmp included.", low=16, high=65536)
    cpu_percent: int = setting(
        0, "CPU time in percent of one core that its processes may use together; 0: no limit.", low=0, high=25600
    )
    max_processes: int = setting(64, "Processes and threads it may have at once.", low=2, high=4096)
    max_open_files: int = setting(256, "Files and sockets one of its processes may have open.", low=16, high=65536)
    max_disk_mb: int = setting(64, "Size in MiB of its own folder, and of each file.", low=1, high=65536)
    network: bool = setting(True, "Whether it may use the network; false needs the sandbox.")
    devices: tuple[str, ...] = setting(
        (), "Devices it may use: gpio, i2c, spi, serial, camera, or paths below /dev. In the sandbox it sees no other."
    )
    max_result_bytes: int = setting(1_048_576, "Largest result in bytes of JSON.", low=64, high=268_435_455)
    max_output_bytes: int = setting(
        65_536, "Bytes that one call may print into the log; the rest is counted and left out.", low=0, high=16_777_216
    )


@dataclass(frozen=True, slots=True)
class Retry:
    """What is tried again, how often, and after which pause. The pause doubles with every attempt."""

    attempts: int = setting(1, "Times a call is tried in all; 1: no retry.", low=1, high=10)
    backoff_s: float = setting(1.0, "Seconds before the second attempt.", low=0.0, high=60.0)
    on: tuple[str, ...] = setting(
        ("crashed", "timeout", "out_of_memory"),
        "Which errors are tried again.",
        choices=("crashed", "timeout", "out_of_memory", "function_error"),
    )


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands in a function's environment besides what all have."""

    env: Mapping[str, str] = setting({}, "Variables of its environment, by name.", pattern=VARIABLE)
    secrets: tuple[str, ...] = setting(
        (), "Names of secrets that it gets, each in the variable of the same name.", pattern=VARIABLE
    )


_FILTER: dict[str, Any] = {"pattern": topics.FILTER, "form": 'topic filter of MQTT, such as "sensors/+/temperature"'}
_TOPIC: dict[str, Any] = {
    "pattern": topics.TOPIC,
    "form": 'topic of MQTT without wildcards, such as "alerts/temperature"',
}
_PUBLISH: dict[str, Any] = {"pattern": topics.PUBLISH_FILTER, "form": 'topic filters of MQTT, such as "actuators/#"'}
_CRON = r"@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[0-9A-Za-z*,/#?-]+( [0-9A-Za-z*,/#?-]+){4}"


@dataclass(frozen=True, slots=True)
class Batch:
    """How many events are collected, and how long at most, before `main` is called with the list of them."""

    events: int = setting(100, "Events in one call at most.", low=1, high=10_000)
    seconds: float = setting(1.0, "Seconds after its first event that a batch is closed.", low=0.05, high=3600.0)


@dataclass(frozen=True, slots=True)
class Trigger:
    """Messages that call the function. Of `batch`, `debounce_s` and `throttle_s` a trigger may have one."""

    topic: str = setting("", "Which topics; `$share/<group>/…` too.", required=True, **_FILTER)
    qos: int = setting(1, "QoS of the subscription.", low=0, high=1)
    retained: bool = setting(False, "Whether messages that the broker had retained call it too.")
    payload: str = setting(
        "json", "What the payload must be, and as what `main` gets it.", choices=("json", "text", "bytes")
    )
    batch: Batch | None = setting(None, "Collects events: `main` is called with a list of them.")
    debounce_s: float = setting(
        0.0, "Calls it when a topic has been quiet for so many seconds, with its last message; 0: at once.",
        low=0.0, high=3600.0,
    )  # fmt: skip
    throttle_s: float = setting(
        0.0, "Calls it at most once in so many seconds for each topic; the last message wins. 0: always.",
        low=0.0, high=3600.0,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Schedule:
    """Times at which the function is called. A schedule has `cron` or `every_s`."""

    cron: str = setting(
        "",
        "When, in the five fields of cron.",
        pattern=_CRON,
        form='time of cron in five fields, such as "*/5 * * * *"',
    )
    every_s: float = setting(0.0, "Seconds from one call to the next.", low=1.0, high=31_536_000.0)
    timezone: str = setting(
        "", "Time zone of `cron`; empty: the device's.", pattern=r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*",
        form='time zone, such as "Europe/Berlin"',
    )  # fmt: skip
    missed: str = setting(
        "skip", "What becomes of times at which the server was not there: nothing, or one call for all of them.",
        choices=("skip", "run_once"),
    )  # fmt: skip
    overlap: bool = setting(False, "Whether it is called while the call before still runs.")


@dataclass(frozen=True, slots=True)
class Output:
    """Where results go that are not None, as plain JSON; besides the answer, where a caller awaits one."""

    topic: str = setting("", "The topic.", required=True, **_TOPIC)
    retain: bool = setting(False, "Whether the broker keeps the last one for those who subscribe later.")
    qos: int = setting(1, "QoS of the message.", low=0, high=1)
    on: str = setting(
        "result", "`change`: only a result that is not the one published last.", choices=("result", "change")
    )


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a function is connected to: what calls it besides requests, and where it may publish."""

    trigger: tuple[Trigger, ...] = setting((), "Messages that call it: [triggers](#triggers).")
    schedule: tuple[Schedule, ...] = setting((), "Times at which it is called: [schedules](#schedules).")
    output: Output | None = setting(None, "Where its results are published: [output](#output).")
    publish: tuple[str, ...] = setting((), "Where `context.publish` may publish.", **_PUBLISH)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a function's `function.toml` says, over the server's defaults."""

    limits: Limits
    retry: Retry
    surroundings: Surroundings
    wiring: Wiring


@dataclass(frozen=True, slots=True)
class Version:
    """One uploaded version of a function, as the registry records it; `signed_by` is empty where nobody signed."""

    number: int
    uploaded: str
    digest: str
    environment: str
    config: Mapping[str, Any] = field(default_factory=dict)
    signed_by: str = ""


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """All that a worker needs to serve the current version of a function."""

    name: str
    version: int
    uploaded: str
    code_dir: Path
    state_dir: Path
    python: Path
    limits: Limits
    retry: Retry
    surroundings: Surroundings
    wiring: Wiring


@dataclass(slots=True, eq=False)
class Request:
    """One message as it came from the broker: bare bytes, parsed only when its turn comes.

    Times are monotonic seconds. `mid` and `epoch` say which packet of which connection awaits an acknowledgement;
    `digest` and `mid` together recognise a redelivery. `answer` is kept while it can't be sent; `kept_in` is the file
    that holds a large one until then. `letter` is the dead letter that this request runs again, `schedule` the schedule
    that asks for it. `settled`: its outcome has gone out, or it was dropped.

    `chain` names the functions that led to it. Of a message that triggers functions, `identifiers` tell by which
    subscriptions it came, `firings` counts what is not done with it yet, and `unrecorded` what the history lacks.
    """

    topic: str
    payload: bytes
    qos: int = 0
    mid: int = 0
    dup: bool = False
    retain: bool = False
    epoch: int = 0
    received_s: float = 0.0
    expires_s: float | None = None
    response_topic: str = ""
    correlation: bytes | None = None
    function: str = ""
    digest: int = 0
    size: int = 0
    answer: Answer | None = None
    kept_in: Path | None = None
    letter: Path | None = None
    schedule: str = ""
    settled: bool = False
    chain: str = ""
    identifiers: tuple[int, ...] = ()
    firings: int = 0
    unrecorded: int = 0


@dataclass(slots=True, eq=False)
class Firing(Request):
    """One call of a function by a trigger: because of one message, or of those of a batch.

    `topic` is that of the message, or the filter of the batch. `payload` is the call as JSON and `body` what the worker
    gets, if not that; both are made when its turn comes. A `recorded` one has run before: only what it published is
    published again. One without `causes` runs a dead letter again.
    """

    trigger: Trigger | None = None
    causes: tuple[Request, ...] = ()
    body: bytes = b""
    recorded: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """What a function publishes besides its answer; `json` says whether the payload is."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    json: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What is published for a request: on its own topic (empty where it has none), on the error topic, and elsewhere.

    An empty `payload` means that nobody is to be answered, only acknowledged. `chain` names the functions that led to
    it, itself included; it goes with all that is published, for loops to be seen.
    """

    topic: str
    payload: bytes
    error_payload: bytes = b""
    publications: tuple[Publication, ...] = ()
    chain: str = ""


@dataclass(slots=True)
class Invocation:
    """A request that was accepted, on its way to its one outcome. `arguments` is what the history keeps of them.

    It has ended with its outcome, before that is recorded.
    """

    id: str
    request: Request
    started_s: float
    started_wall_s: float
    request_id: str = ""
    spec: FunctionSpec | None = None
    arguments: bytes = b""
    attempts: int = 1
    ended_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a worker returned: the result as JSON text, and whether the worker was started for this call."""

    json: bytes
    cold: bool
