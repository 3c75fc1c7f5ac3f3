"""Whether anything grows: many functions, a full history; and how long a start takes with them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from tests.bench.findings import ms, times
from tests.bench.jobs import middle
from tests.bench.populated import name_of, populated_home
from tests.bench.progress import say
from tests.bench.stage import Stage, p, ratio
from tests.bench.trees import memory


def run(stage: Stage) -> None:
    """Servers side by side on one broker, each under a base topic of its own, asked in turns."""
    say("many functions and a full history")
    sizes = (
        [(1, False), (1000, True)]
        if stage.quick
        else [(1, False), (1, True), (100, False), (1000, False), (1000, True)]
    )
    with ExitStack() as kept:
        field, resident = [], {}
        for count, full in sizes:
            home = populated_home(stage, count, full_history=full)
            name = f"{count} function{'s' if count > 1 else ''}, {'full' if full else 'empty'} history"
            base = f"bench-{count}-{'full' if full else 'empty'}"
            server = kept.enter_context(stage.server({"mqtt_base_topic": base}, home=home))
            field.append(replace(server.contestant(name_of(0)), name=name))
            stage.load(field[-1], count=200)  # its worker is warm then
            resident[name] = memory(server.pid).rss
        outcomes = stage.alternate(field, 2 if stage.quick else 7, duration_s=1.5)
    first, last = outcomes[field[0].name], outcomes[field[-1].name]
    p50 = ratio([each.percentile_s(50) for each in last], [each.percentile_s(50) for each in first])
    stage.findings.judge(
        "p50 with 1,000 functions and a full history, to 1 and empty", f"{ms(p(first, 50))} ms",
        f"{ms(p(last, 50))} ms", p50, "≤", 1.1, "×",
    )  # fmt: skip
    stage.findings.table(
        "Many functions, a full history", "Echo, 1 in flight, QoS 1.",
        ("", "p50 ms", "p99 ms", "p50 to the first", "server's RSS"),
        [(name, ms(p(found, 50)), ms(p(found, 99)),
          times(ratio([each.percentile_s(50) for each in found], [each.percentile_s(50) for each in first])),
          f"{resident[name] / 1e6:.1f} MB") for name, found in outcomes.items()],
    )  # fmt: skip


def run_start(stage: Stage) -> None:
    """From the start of the process until it says that it serves."""
    say("time to ready")
    floor = stage.floors.packages_start_s()
    rows = [("floor: an interpreter that imports the four packages", ms(floor), times(1.0))]
    for count in (1, 200):
        home = populated_home(stage, count)
        found = []
        for _ in range(3):
            with stage.server(home=home, started=False) as server:
                found.append(server.start_timed())
        rows.append((f"{count} function{'s' if count > 1 else ''}", ms(middle(found)), times(middle(found) / floor)))
    stage.findings.table("Time to ready at a start", "", ("", "median ms", "to floor"), rows)
