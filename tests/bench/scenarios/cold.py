"""The first call of a worker: of a new function, in a new server, after a time without calls."""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench.findings import ms, times
from tests.bench.functions import ECHO
from tests.bench.jobs import middle
from tests.bench.populated import name_of, populated_home
from tests.bench.progress import say
from tests.bench.served import MeasuredServer
from tests.bench.stage import Stage
from tests.harness.client import Client

_SANDBOXES = {"auto": "in the sandbox", "off": "without sandbox"}


def run(stage: Stage) -> None:
    """Each with and without sandbox, and alternately with the start of a bare interpreter."""
    samples = 12 if stage.quick else 30
    home = populated_home(stage, samples)
    rows = []
    for mode, where in _SANDBOXES.items():
        say(f"first calls on new workers, {where}")
        floor, first = _new_workers(stage, home, mode, samples)
        paired = middle([mine / bound for mine, bound in zip(first, floor, strict=True)])
        stage.findings.judge(
            f"first call on a new worker, {where}", f"{ms(middle(floor))} ms", f"{ms(middle(first))} ms",
            paired, "≤", 2.0 if mode == "auto" else 0.5, "×",
        )  # fmt: skip
        rows.append(_row("new worker", where, first, floor))
        if not stage.quick:
            rows.append(_row("after idle", where, _after_idle(stage, home, mode), floor))
            rows.append(_row("new function, from its upload on", where, _new_functions(stage, mode), floor))
    stage.findings.table(
        "Cold starts",
        "From the request to the answer. The floor is `python -I -c pass` from start to end.",
        ("first call", "", "floor ms", "median ms", "max ms", "to floor"), rows,
    )  # fmt: skip


def _row(what: str, where: str, found: list[float], floor: list[float]) -> tuple[str, ...]:
    return (
        what, where, ms(middle(floor)), ms(middle(found)), ms(max(found)), times(middle(found) / middle(floor)),
    )  # fmt: skip


def _new_workers(stage: Stage, home: Path, mode: str, samples: int) -> tuple[list[float], list[float]]:
    """Every function of a server that has just started is called once, and then an interpreter is started."""
    floor, first = [], []
    with stage.server({"sandbox_mode": mode}, home=home) as server, stage.client() as client:
        stage.floors.start_s()
        _timed(stage, client, server, name_of(0))  # what the server itself does once only is no worker's
        for number in range(1, samples):
            first.append(_timed(stage, client, server, name_of(number), cold=True))
            floor.append(stage.floors.start_s())
    return floor, first


def _after_idle(stage: Stage, home: Path, mode: str) -> list[float]:
    found = []
    with stage.server({"sandbox_mode": mode, "pool_idle_s": 1}, home=home) as server, stage.client() as client:
        for _ in range(5):
            client.invoke(name_of(0), 0)
            server.wait_cold(client, name_of(0))
            found.append(_timed(stage, client, server, name_of(0), cold=True))
    return found


def _new_functions(stage: Stage, mode: str) -> list[float]:
    found = []
    with stage.server({"sandbox_mode": mode}) as server, stage.client() as client:
        for number in range(5):
            begun = time.perf_counter()
            client.deploy(f"new-{number}", ECHO)
            _timed(stage, client, server, f"new-{number}")
            found.append(time.perf_counter() - begun)
    return found


def _timed(stage: Stage, client: Client, server: MeasuredServer, function: str, *, cold: bool = False) -> float:
    """Seconds from the request to its answer; one that was not cold although it should be is a complaint."""
    begun = time.perf_counter()
    answer = client.invoke(function, 0)
    seconds = time.perf_counter() - begun
    if answer["status"] != "success" or (cold and not answer["cold"]):
        stage.findings.complaints.append(f"a first call of {function} is not what it should be: {answer}")
    return seconds
