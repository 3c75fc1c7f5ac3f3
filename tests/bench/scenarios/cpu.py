"""Functions that compute, and functions that wait: more of them than there are cores or threads."""

from __future__ import annotations

import os
from dataclasses import replace

from tests.bench.contestants import Contestant
from tests.bench.drive import Driven
from tests.bench.findings import NOTHING, ms, times
from tests.bench.functions import COUNT, ECHO, SLEEP
from tests.bench.jobs import middle
from tests.bench.peers import original
from tests.bench.progress import say
from tests.bench.stage import Rounds, Stage, p, ratio, throughput

_STEPS = 300_000
_ALONE = 60  # times that, for a bare process
_NAP_S = 0.05


def run(stage: Stage) -> None:
    """CPU-bound functions on one and on all cores; functions asleep."""
    with stage.server() as server, stage.client() as client:
        cores = os.cpu_count() or 1
        client.deploy("count", COUNT, config={"concurrency": cores})
        _cores(stage, replace(server.contestant("count"), args=str(_STEPS)), cores)
        if not stage.quick:
            client.deploy("sleep", SLEEP)
            client.deploy("echo", ECHO)
            _asleep(stage, replace(server.contestant("sleep"), args=str(_NAP_S)), server.contestant())


def _cores(stage: Stage, count: Contestant, cores: int) -> None:
    say(f"CPU-bound on 1 and on {cores} cores")
    rounds, duration_s = (2, 2.0) if stage.quick else (4, 5.0)
    rows = []
    stage.load(count, in_flight=cores, count=2 * cores)  # its workers are warm then
    one: Rounds = []
    all_cores: Rounds = []
    machine = []
    for _ in range(rounds):
        one.append(stage.load(count, in_flight=1, duration_s=duration_s))
        all_cores.append(stage.load(count, in_flight=cores, duration_s=duration_s))
        machine.append(cores * stage.floors.burn_s(1, _ALONE, _STEPS) / stage.floors.burn_s(cores, _ALONE, _STEPS))
    stage.findings.judge(
        f"CPU-bound, {cores} cores against one (floor: bare processes)", times(middle(machine)),
        times(_gain(one, all_cores)), _gain(one, all_cores), "≥", 0.95 * cores, "×",
    )  # fmt: skip
    rows.append(_row(count.name, one, all_cores))
    if stage.with_peers:
        with original(stage.port, stage.grounds.new_folder, {"count": COUNT}) as peer:
            theirs = replace(peer, args=str(_STEPS))
            one = [stage.load(theirs, in_flight=1, duration_s=duration_s)]
            all_cores = [stage.load(theirs, in_flight=cores, duration_s=duration_s)]
            rows.append(_row(peer.name, one, all_cores))
    head = ("", "answers/s, 1 in flight", f"answers/s, {cores} in flight", "gain", "p50 ms, 1", f"p50 ms, {cores}")
    stage.findings.table("CPU-bound functions", "", head, rows)


def _gain(one: Rounds, all_cores: Rounds) -> float:
    return ratio([each.throughput for each in all_cores], [each.throughput for each in one])


def _row(name: str, one: Rounds, all_cores: Rounds) -> tuple[str, ...]:
    return (name, f"{throughput(one):.1f}", f"{throughput(all_cores):.1f}", times(_gain(one, all_cores)),
            ms(p(one, 50)), ms(p(all_cores, 50)))  # fmt: skip


def _asleep(stage: Stage, sleep: Contestant, echo: Contestant) -> None:
    say("functions asleep, more than there are threads")
    quiet = stage.load(echo, rate=20, duration_s=3.0)
    with Driven(sleep.job(stage.port, in_flight=64, duration_s=5.0)) as driven:
        beside = stage.load(echo, rate=20, warmup_s=1.5, duration_s=3.0)
        asleep = driven.outcome()
    stage.findings.table(
        "Functions asleep beyond the pool's size",
        f"64 calls in flight that each sleep {_NAP_S * 1000:.0f} ms, with stock settings, beside an echo 20 times a "
        "second.",
        ("", "answers/s", "p50 ms", "p99 ms", "lost", "doubled"),
        [
            ("asleep", f"{asleep.throughput:.1f}", ms(asleep.percentile_s(50)), ms(asleep.percentile_s(99)),
             str(asleep.lost), str(asleep.doubled)),
            ("echo, quiet", NOTHING, ms(quiet.percentile_s(50)), ms(quiet.percentile_s(99)), str(quiet.lost),
             str(quiet.doubled)),
            ("echo, beside them", NOTHING, ms(beside.percentile_s(50)), ms(beside.percentile_s(99)), str(beside.lost),
             str(beside.doubled)),
        ],
    )  # fmt: skip
