"""The smallest function: its latency and throughput beside floors and peers, by load and by size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench import floors
from tests.bench.contestants import Contestant
from tests.bench.findings import mb, ms, times
from tests.bench.functions import ECHO
from tests.bench.jobs import percentile
from tests.bench.peers import all_peers
from tests.bench.progress import say
from tests.bench.stage import Rounds, Stage, p, ratio, throughput
from tests.bench.trees import memory, tree_memory

_HEAD = ("", "answers/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "p50 to floor", "answers/s to floor")
_CURVE = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99)


def run(stage: Stage) -> None:
    """Closed loop, open loop, payloads; and how much memory the peers take, while they are there."""
    with stage.server() as server, stage.client() as client, stage.floors.paho(stage.port) as floor:
        client.deploy("echo", ECHO)
        with _peers(stage) as peers:
            field = [floor, server.contestant(), *peers]
            _memory(stage, peers)
            capacity = _closed(stage, field)
            if not stage.quick:
                _qos_0(stage, field[:2])
                _open(stage, field[1], capacity)
                _payloads(stage, field[:2])


@contextmanager
def _peers(stage: Stage) -> Iterator[list[Contestant]]:
    if not stage.with_peers:
        yield []
        return
    with all_peers(stage.port, stage.grounds.new_folder) as peers:
        yield peers


def _closed(stage: Stage, field: list[Contestant]) -> float:
    """Returns our throughput at the highest load: the capacity."""
    say("echo, closed loop")
    rounds = 3
    levels = (1, 64) if stage.quick else (1, 2, 4, 8, 16, 32, 64)
    points: dict[str, list[tuple[float, float]]] = {contestant.name: [] for contestant in field}
    ceiling = [(float(level), stage.load(floors.ECHO, in_flight=level).throughput) for level in levels]
    for level in levels:
        outcomes = stage.alternate(field, rounds, in_flight=level)
        floor, ours = outcomes[field[0].name], outcomes[field[1].name]
        for name, found in outcomes.items():
            points[name].append((level, throughput(found)))
        if level in (1, 8, 64):
            stage.findings.table(
                f"Echo, {level} in flight, QoS 1",
                "",
                _HEAD,
                [_row(name, found, floor) for name, found in outcomes.items()],
            )
        if level in (1, 64):
            _draw(stage, f"latency-{level}", outcomes)
        if level == 1:
            _judge_latency(stage, floor, ours)
        if level == 64:
            _judge_throughput(stage, outcomes, floor, ours)
    for name, found_points in points.items():
        stage.findings.curve("throughput", name, found_points)
    stage.findings.curve("throughput", floors.ECHO.name, ceiling)
    stage.findings.table(
        "The load generator's own ceiling",
        "Answers a second when the broker itself sends each request back: what any other row could reach at most.",
        ("in flight", "answers/s"),
        [(f"{level:.0f}", f"{rate:.0f}") for level, rate in ceiling],
    )
    return points[field[1].name][-1][1]


def _judge_latency(stage: Stage, floor: Rounds, ours: Rounds) -> None:
    floor_p50 = [each.percentile_s(50) for each in floor]
    judge = stage.findings.judge
    judge("warm echo, 1 in flight, QoS 1, p50", f"{ms(p(floor, 50))} ms", f"{ms(p(ours, 50))} ms",
          ratio([each.percentile_s(50) for each in ours], floor_p50), "≤", 1.5, "×")  # fmt: skip
    judge("the same, p99 to the floor's p50", f"{ms(p(floor, 50))} ms", f"{ms(p(ours, 99))} ms",
          ratio([each.percentile_s(99) for each in ours], floor_p50), "≤", 10, "×")  # fmt: skip


def _judge_throughput(stage: Stage, outcomes: dict[str, Rounds], floor: Rounds, ours: Rounds) -> None:
    mine = [each.throughput for each in ours]
    for name, bound, found in (("", 0.5, floor), (", to Node-RED", 1.0, outcomes.get("Node-RED"))):
        if found is not None:
            stage.findings.judge(
                f"echo, 64 in flight, QoS 1, throughput{name}", f"{throughput(found):.0f}/s",
                f"{throughput(ours):.0f}/s", ratio(mine, [each.throughput for each in found]), "≥", bound, "×",
            )  # fmt: skip


def _row(name: str, found: Rounds, floor: Rounds) -> tuple[str, ...]:
    return (
        name,
        f"{throughput(found):.0f}",
        *(ms(p(found, percent)) for percent in (50, 90, 99, 99.9, 100)),
        times(ratio([each.percentile_s(50) for each in found], [each.percentile_s(50) for each in floor])),
        times(ratio([each.throughput for each in found], [each.throughput for each in floor])),
    )


def _draw(stage: Stage, plot: str, outcomes: dict[str, Rounds]) -> None:
    """A distribution over all rounds, as far as there are enough values to speak of it."""
    for name, found in outcomes.items():
        values = sorted(value for each in found for value in each.latencies_s)
        shown = [percent for percent in _CURVE if len(values) * (100 - percent) / 100 >= 1]
        stage.findings.curve(plot, name, [(percent, percentile(values, percent) * 1000) for percent in shown])


def _qos_0(stage: Stage, field: list[Contestant]) -> None:
    say("echo, QoS 0")
    for level in (1, 64):
        outcomes = stage.alternate(field, 3, in_flight=level, qos=0)
        floor = outcomes[field[0].name]
        rows = [_row(name, found, floor) for name, found in outcomes.items()]
        stage.findings.table(f"Echo, {level} in flight, QoS 0", "", _HEAD, rows)


def _open(stage: Stage, ours: Contestant, capacity: float) -> None:
    say("echo, open loop")
    rows = []
    for share in (0.25, 0.5, 0.75):
        found = stage.alternate([ours], 3, rate=capacity * share, duration_s=4.0)[ours.name]
        lag = max(each.lag_s for each in found)
        rows.append((f"{share:.0%}", f"{capacity * share:.0f}", f"{throughput(found):.0f}",
                     *(ms(p(found, percent)) for percent in (50, 90, 99, 99.9, 100)), ms(lag)))  # fmt: skip
    stage.findings.table(
        "Echo at a fixed rate, QoS 1",
        "Shares of the throughput at 64 in flight. A latency counts from the moment its request was due, so it holds "
        "what a pause makes others wait. The last column is how late the generator itself was, at its p99.",
        ("share", "requests/s", "answers/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "generator late ms"),
        rows,
    )


def _payloads(stage: Stage, field: list[Contestant]) -> None:
    say("echo, larger payloads")
    rows = []
    for size, name in ((1_000, "1 kB"), (100_000, "100 kB"), (1_000_000, "1 MB")):
        outcomes = stage.alternate(field, 3, size=size)
        floor, ours = (outcomes[each.name] for each in field)
        rows.append((name, ms(p(floor, 50)), ms(p(ours, 50)), ms(p(ours, 99)),
                     times(ratio([each.percentile_s(50) for each in ours],
                                 [each.percentile_s(50) for each in floor]))))  # fmt: skip
    stage.findings.table(
        "Echo by size of request and answer, 1 in flight, QoS 1", "",
        ("size", "floor p50 ms", "tinyfaas p50 ms", "tinyfaas p99 ms", "p50 to floor"), rows,
    )  # fmt: skip


def _memory(stage: Stage, peers: list[Contestant]) -> None:
    if peers:
        rows = [(each.name, mb(memory(each.pid).rss), mb(tree_memory(each.pid).pss)) for each in peers]
        stage.findings.table(
            "Memory of the peers, idle, with one function", "", ("", "RSS", "PSS with all below it"), rows
        )
