"""What the server takes: idle, for each warm worker, after many calls."""

from __future__ import annotations

from dataclasses import replace

from tests.bench.findings import mb
from tests.bench.functions import ECHO, SLEEP
from tests.bench.progress import say
from tests.bench.stage import Stage
from tests.bench.trees import Memory, command, memory, steady_memory, tree

_MOST_WORKERS = 8
_CALLS = 100_000


def run(stage: Stage) -> None:
    """RSS of the server's own process; PSS of all that belongs to it, so that shared pages count once."""
    say("memory")
    bare = stage.floors.interpreter()
    rows = [*_idle(stage), _row("floor: one bare interpreter more", bare)]
    for mode, where in (("auto", "in the sandbox"), ("off", "without sandbox")):
        rows += _workers(stage, mode, where, bare)
    if not stage.quick:
        rows += _after_calls(stage)
    stage.findings.table(
        "Memory", "PSS divides shared pages among those who share them.", ("", "RSS", "PSS"), rows
    )  # fmt: skip


def _idle(stage: Stage) -> list[tuple[str, ...]]:
    packages = stage.floors.packages()
    with stage.server({"pool_idle_s": 1}) as server, stage.client() as client:
        steady_memory(server.pid)
        fresh = memory(server.pid)
        client.deploy("echo", ECHO)
        client.call("echo")
        server.wait_cold(client, "echo")  # what it has started for its functions is there, and no worker is
        everything = steady_memory(server.pid)
        own = memory(server.pid)
        others = [(f"beside it: `{command(pid)}`", memory(pid)) for pid in tree(server.pid)[1:]]
    judge = stage.findings.judge
    judge("server, idle, RSS", mb(packages.rss), mb(own.rss), own.rss / 1e6, "≤", 32, "MB")
    judge(
        "everything idle that belongs to it, PSS",
        mb(packages.pss),
        mb(everything.pss),
        everything.pss / 1e6,
        "≤",
        40,
        "MB",
    )
    return [
        _row("floor: an interpreter with the four packages", packages),
        _row("server, freshly started", fresh),
        _row("server, idle, with one function and no worker", own),
        *(_row(name, each) for name, each in others),
        _row("all of it", everything),
    ]


def _workers(stage: Stage, mode: str, where: str, bare: Memory) -> list[tuple[str, ...]]:
    """Of one function, so many at once as are asked: what the last ones add is the price of one."""
    found: dict[int, Memory] = {}
    with stage.server({"sandbox_mode": mode, "workers": _MOST_WORKERS}) as server, stage.client() as client:
        client.deploy("sleep", SLEEP, config={"concurrency": _MOST_WORKERS})
        for workers in (1, 4, _MOST_WORKERS):
            asleep = replace(server.contestant("sleep"), args="1.0")
            outcome = stage.load(asleep, in_flight=workers, count=workers)
            warm = server.warm(client, "sleep")
            if outcome.lost or warm != workers:
                stage.findings.complaints.append(f"memory with {workers} workers: {warm} are warm")
            found[workers] = steady_memory(server.pid)
    most, least = max(found), min(found)
    each = (found[most].pss - found[least].pss) / (most - least)
    stage.findings.judge(f"each further warm worker, {where}, PSS", mb(bare.pss), mb(each), each / 1e6, "≤", 3, "MB")
    return [
        *(
            _row(f"{count} warm worker{'s' if count > 1 else ''}, {where}, all of it", each)
            for count, each in found.items()
        ),
        (f"each further warm worker, {where}", mb((found[most].rss - found[least].rss) / (most - least)), mb(each)),
    ]


def _after_calls(stage: Stage) -> list[tuple[str, ...]]:
    say(f"memory after {_CALLS} calls")
    with stage.server() as server, stage.client() as client:
        client.deploy("echo", ECHO)
        stage.load(server.contestant(), in_flight=64, count=1000)
        before, all_before = memory(server.pid), steady_memory(server.pid)
        stage.load(server.contestant(), in_flight=64, count=_CALLS)
        after, all_after = memory(server.pid), steady_memory(server.pid)
    return [
        _row("server after 1,000 calls", before),
        _row("all of it after 1,000 calls", all_before),
        _row(f"server after {_CALLS:,} calls", after),
        _row(f"all of it after {_CALLS:,} calls", all_after),
    ]


def _row(name: str, found: Memory) -> tuple[str, ...]:
    return (name, mb(found.rss), mb(found.pss))
