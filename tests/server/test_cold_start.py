"""What a new worker costs, with a sandbox around it and without one: shown for docs/isolation.md, and within reason."""

from __future__ import annotations

import subprocess
import time

from tests.harness.bench import Grounds
from tests.harness.measured import Measured
from tests.harness.place import Place

ROUNDS = 40
ENDING = "import os\ndef main(end=False):\n    if end: os._exit(0)\n    return 'well'"


def test_a_cold_start_takes_a_few_times_what_a_bare_interpreter_does(
    place: Place, grounds: Grounds, measured: Measured, function: str
) -> None:
    place.client.deploy(function, ENDING)
    cold_ms, warm_ms, bare_ms = [], [], []
    for _ in range(ROUNDS):
        assert place.client.invoke(function, True)["code"] == "crashed"
        cold, warm = place.client.invoke(function), place.client.invoke(function)
        assert (cold["cold"], warm["cold"]) == (True, False)
        cold_ms.append(cold["duration_ms"])
        warm_ms.append(warm["duration_ms"])
        began_s = time.monotonic()
        subprocess.run([grounds.installation.python, "-I", "-c", "pass"], check=True)
        bare_ms.append((time.monotonic() - began_s) * 1000)
    # The quickest of each: what else the machine does makes none quicker.
    cold_start, warm_call, bare = (min(each) for each in (cold_ms, warm_ms, bare_ms))
    measured.add("cold", boxed=place.boxed, cold_ms=cold_start, warm_ms=warm_call, bare_ms=bare)
    assert cold_start < 30 * bare  # nothing waits for a time limit there
