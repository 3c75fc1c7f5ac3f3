"""What every scenario has: a broker, the floors, servers on demand, and where it puts what it found."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.contestants import Contestant
from tests.bench.findings import Findings
from tests.bench.floors import Floors
from tests.bench.jobs import Outcome, middle
from tests.bench.peers import CACHE
from tests.bench.progress import say
from tests.bench.served import MeasuredServer
from tests.harness.bench import Grounds
from tests.harness.broker import Broker
from tests.harness.client import Client

LOGS = CACHE / "logs"  # of servers something went wrong with
Rounds = list[Outcome]


class Stage:
    """One run on one machine with one broker."""

    def __init__(self, grounds: Grounds, broker: Broker, *, quick: bool, with_peers: bool) -> None:
        self.grounds = grounds
        self.broker = broker
        self.quick = quick
        self.with_peers = with_peers
        self.floors = Floors(grounds.installation, grounds.account)
        self.findings = Findings()
        shutil.rmtree(LOGS, ignore_errors=True)
        LOGS.mkdir(parents=True)

    @property
    def port(self) -> int:
        """The broker's."""
        return self.broker.port

    @contextmanager
    def server(
        self, settings: dict[str, Any] | None = None, *, home: Path | None = None, started: bool = True
    ) -> Iterator[MeasuredServer]:
        """A server while it is needed; with stock settings but for those given."""
        grounds = self.grounds
        home = home or grounds.new_folder("home")
        server = MeasuredServer(grounds.installation, grounds.account, grounds.fence, home, self.broker, settings)
        complaints = len(self.findings.complaints)
        try:
            yield server.start() if started else server
        finally:
            if len(self.findings.complaints) > complaints:
                shutil.copy(server.log_file, LOGS)  # whoever wonders can read what it said
            server.close()

    def client(self, base: str = "faas") -> Client:
        """Somebody to ask and to upload."""
        return Client(self.port, topics=(f"{base}/response/#",))

    def load(self, contestant: Contestant, **load: Any) -> Outcome:
        """One load on one contestant; what went wrong goes into the findings."""
        outcome = contestant.load(self.port, **load)
        how = f"{load['rate']:.0f}/s" if load.get("rate") else f"{load.get('in_flight', 1)} in flight"
        where = f"{contestant.name}, {how}"
        wrong = outcome.complaints()
        if wrong:
            self.findings.complaints.append(f"{where}: {wrong} of {outcome.sent}")
        p50, p99 = outcome.percentile_s(50) * 1000, outcome.percentile_s(99) * 1000
        say(f"{where}: {outcome.throughput:.0f}/s, p50 {p50:.3f} ms, p99 {p99:.3f} ms {wrong}")
        return outcome

    def alternate(self, contestants: Sequence[Contestant], rounds: int, **load: Any) -> dict[str, Rounds]:
        """The same load on one after the other, and that again: what changes on the machine meets them all."""
        outcomes: dict[str, Rounds] = {contestant.name: [] for contestant in contestants}
        for _ in range(rounds):
            for contestant in contestants:
                outcomes[contestant.name].append(self.load(contestant, **load))
        return outcomes


def p(rounds: Rounds, percent: float) -> float:
    """The median over the rounds of a percentile, in seconds."""
    return middle([outcome.percentile_s(percent) for outcome in rounds])


def throughput(rounds: Rounds) -> float:
    """The median over the rounds of the answers a second."""
    return middle([outcome.throughput for outcome in rounds])


def ratio(ours: list[float], floor: list[float]) -> float:
    """The median of the ratios, each within one round."""
    return middle([mine / bound for mine, bound in zip(ours, floor, strict=True) if bound])
