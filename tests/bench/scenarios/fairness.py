"""A quiet function, while another is flooded with work for all cores."""

from __future__ import annotations

from dataclasses import replace

from tests.bench.contestants import Contestant
from tests.bench.drive import Driven
from tests.bench.findings import ms, times
from tests.bench.functions import BURN, BURN_ALL_CORES, ECHO
from tests.bench.jobs import Outcome
from tests.bench.progress import say
from tests.bench.stage import Stage

_BURN_S = 0.2


def run(stage: Stage) -> None:
    """Judged with calls that fill all cores; shown also with calls that fill one each."""
    say("a quiet function beside a flood")
    with stage.server() as server, stage.client() as client:
        client.deploy("quiet", ECHO)
        client.deploy("flood", BURN_ALL_CORES)
        client.deploy("flood-one", BURN)
        quiet = server.contestant("quiet")
        # Once a second; the quick run has not the time, and asks more often.
        load = {"rate": 5.0, "duration_s": 6.0} if stage.quick else {"rate": 1.0, "duration_s": 100.0}
        alone = stage.load(quiet, **load)
        flooded = _beside(stage, quiet, server.contestant("flood"), load)
        rows = [("alone", alone), ("flooded, each call on all cores", flooded)]
        if not stage.quick:
            rows.append(("flooded, each call on one core", _beside(stage, quiet, server.contestant("flood-one"), load)))
    stage.findings.judge(
        "p99 of a quiet function while all cores are flooded, to its quiet p99", f"{ms(alone.percentile_s(99))} ms",
        f"{ms(flooded.percentile_s(99))} ms", flooded.percentile_s(99) / alone.percentile_s(99), "≤", 5, "×",
    )  # fmt: skip
    stage.findings.table(
        "A quiet function beside a flood",
        f"Another function has 16 calls in flight that compute for {_BURN_S * 1000:.0f} ms each; stock settings.",
        ("the quiet one", "requests/s", "p50 ms", "p90 ms", "p99 ms", "max ms", "p99 to alone"),
        [(name, f"{load['rate']:g}", *(ms(found.percentile_s(percent)) for percent in (50, 90, 99, 100)),
          times(found.percentile_s(99) / alone.percentile_s(99))) for name, found in rows],
    )  # fmt: skip


def _beside(stage: Stage, quiet: Contestant, flood: Contestant, load: dict[str, float]) -> Outcome:
    flooding = replace(flood, args=str(_BURN_S)).job(
        stage.port, in_flight=16, warmup_s=0, duration_s=load["duration_s"] + 2
    )
    with Driven(flooding) as driven:
        found = stage.load(quiet, warmup_s=1.0, **load)
        if wrong := driven.outcome().complaints():
            stage.findings.complaints.append(f"the flood: {wrong}")
    return found
