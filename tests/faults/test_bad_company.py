"""Functions that crash and hang under load, beside a good one."""

from __future__ import annotations

import pytest

from tests.harness.bench import Bench
from tests.harness.client import new_label
from tests.harness.load import COUNTING, Load, runs_of
from tests.harness.tally import Tally, tally, wait_answered
from tests.harness.waiting import eventually

CRASHING = COUNTING.replace("return number", "return number if number % 3 else os._exit(3)")
HANGING = "    import time" + COUNTING.replace("return number", "return number if number % 10 else time.sleep(600)")
CASES = {"good": (COUNTING, 60.0, 400), "crashing": (CRASHING, 20.0, 120), "hanging": (HANGING, 10.0, 60)}
WRONG = {"good": (0, ""), "crashing": (3, "crashed"), "hanging": (10, "timeout")}


@pytest.mark.timeout(180)
def test_each_call_gets_the_one_answer_it_deserves_whatever_others_do(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"workers": 4}).start()
    admin = bench.client(broker)
    loads: dict[str, Load] = {}
    names = {kind: new_label(kind) for kind in CASES}
    for kind, (code, per_second, _) in CASES.items():
        admin.deploy(names[kind], code, config={"timeout_s": 0.5, "concurrency": 1} if kind == "hanging" else None)
        loads[kind] = Load(bench.client(broker, topics=("faas/response/invoke/#",)), names[kind], per_second)
    for load in loads.values():
        load.start()
    for kind, (_, _, wanted) in CASES.items():
        eventually(lambda kind=kind, wanted=wanted: loads[kind].sent >= wanted, "the load")  # type: ignore[misc]
        loads[kind].stop()
    for kind, load in loads.items():
        wait_answered(load)
        counts: Tally = tally(f"{kind} under load", load, runs_of(server, names[kind]))
        codes = {number: messages[0].body.get("code", "") for number, messages in load.answers().items()}
        every, code = WRONG[kind]
        deserved = {number: code if every and number % every == 0 else "" for number in range(load.sent)}
        counts.say(**{code or "failed": sum(map(bool, codes.values()))})
        assert codes == deserved
        assert (counts.twice, counts.lost, counts.run_twice) == (0, set(), set())
