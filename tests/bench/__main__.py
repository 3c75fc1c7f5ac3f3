"""Measures tinyfaas beside what bounds it, in one run on one machine, and prints ratios.

A target that is missed, and a scenario that fails, are told and end nothing: the exit status is 0.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.bench.conditions import conditions, conditions_after
from tests.bench.findings import Findings, read_findings
from tests.bench.peers import CACHE
from tests.bench.progress import say
from tests.bench.report import PLOTS, for_page, for_terminal
from tests.bench.scenarios import cold, cpu, disk, echo, fairness, memory, scale, upload
from tests.bench.stage import Stage
from tests.harness.bench import Bench, Grounds
from tests.harness.installation import CHECKOUT

SCENARIOS: dict[str, Callable[[Stage], None]] = {
    "echo": echo.run,
    "cpu": cpu.run,
    "fairness": fairness.run,
    "cold": cold.run,
    "upload": upload.run,
    "memory": memory.run,
    "scale": scale.run,
    "disk": disk.run,
    "start": scale.run_start,
}
NOT_QUICK = ("start",)
LAST_RUN = CACHE / "last.json"
DOCS = CHECKOUT / "docs"


def main() -> int:
    """Measure, print, and write what was asked for."""
    arguments = _arguments()
    LAST_RUN.parent.mkdir(parents=True, exist_ok=True)
    if arguments.rewrite:
        findings = read_findings(LAST_RUN.read_text(encoding="utf-8"))
    else:
        findings = _measure(arguments)
        LAST_RUN.write_text(findings.to_json(), encoding="utf-8")
    print(for_terminal(findings))
    whole = not arguments.quick and not arguments.only
    if arguments.write or arguments.rewrite or whole:
        _write(findings, arguments.plotter)
    return 0


def _measure(arguments: argparse.Namespace) -> Findings:
    names = arguments.only or [name for name in SCENARIOS if not (arguments.quick and name in NOT_QUICK)]
    grounds = Grounds()
    bench = Bench(grounds)
    try:
        stage = Stage(grounds, bench.broker(), quick=arguments.quick, with_peers=arguments.peers)
        stage.findings.conditions = conditions(stage)
        for number, name in enumerate(names, start=1):
            say(f"--- {name} ({number} of {len(names)})")
            try:
                SCENARIOS[name](stage)
            except Exception as error:  # noqa: BLE001  (the others are measured all the same)
                traceback.print_exc()
                stage.findings.complaints.append(f"{name} was cut short: {type(error).__name__}: {error}"[:300])
        stage.findings.conditions |= conditions_after(stage)
        return stage.findings
    finally:
        bench.clear()
        grounds.clear()


def _write(findings: Findings, plotter: Path | None) -> None:
    drawn: list[str] = []
    if plotter is not None:
        done = subprocess.run(
            [plotter, "-m", "tests.bench.plots", LAST_RUN, DOCS], cwd=CHECKOUT, check=False, stdout=sys.stderr
        )
        drawn = [name for name in PLOTS if name in findings.curves] if done.returncode == 0 else []
    (DOCS / "performance.md").write_text(for_page(findings, drawn=drawn), encoding="utf-8")
    say("docs/performance.md is written" + ("" if drawn else ", without plots"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main ratios, in about two minutes")
    parser.add_argument("--peers", action="store_true", help="beside Node-RED, AppDaemon and the original design too")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help=f"of: {', '.join(SCENARIOS)}")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md also after --quick or --only")
    parser.add_argument("--rewrite", action="store_true", help="measure nothing: write the page of the last run anew")
    parser.add_argument("--plotter", type=Path, help=argparse.SUPPRESS)  # a Python that has matplotlib
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
