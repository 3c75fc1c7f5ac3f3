"""What became of a load: sent, answered, answered twice, lost, run twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.harness.load import Load
from tests.harness.waiting import eventually

_PATIENCE_S = 90.0


@dataclass(frozen=True)
class Tally:
    """Numbers of requests. `run_twice` is told by the function itself where it counts its runs.

    `twice` may be the identical answer of one outcome, or the answers of two runs.
    """

    name: str
    sent: int
    answered: int
    twice: int
    lost: set[int]
    run_twice: set[int] = field(default_factory=set)

    def say(self, **more: object) -> None:
        """Print one line of counts."""
        further = "".join(f" {key}={value}" for key, value in more.items())
        print(
            f"{self.name}: sent={self.sent} answered={self.answered} answered_twice={self.twice} "
            f"lost={len(self.lost)} run_twice={len(self.run_twice)}{further}"
        )


def tally(name: str, load: Load, runs: Counter[int] | None = None) -> Tally:
    """The counts so far; `runs` is how often each request was run."""
    answers = load.answers()
    return Tally(
        name,
        sent=load.sent,
        answered=len(answers),
        twice=sum(len(messages) > 1 for messages in answers.values()),
        lost=set(range(load.sent)) - answers.keys(),
        run_twice={number for number, count in (runs or {}).items() if count > 1},
    )


def wait_answered(load: Load, but: set[int] | None = None) -> None:
    """Wait until every request has an answer, except those that may have none."""
    due = load.sent - len(but or ())
    eventually(
        lambda: load.answered() >= due and set(range(load.sent)) - load.answers().keys() <= (but or set()),
        "all answers", timeout_s=_PATIENCE_S,
    )  # fmt: skip
