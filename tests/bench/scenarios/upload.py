"""From an upload to the new code's first answer."""

from __future__ import annotations

import time
from statistics import median

from tests.bench.findings import NOTHING, ms
from tests.bench.progress import say
from tests.bench.stage import Stage
from tests.harness.client import Client
from tests.harness.packages import wheel


def run(stage: Stage) -> None:
    """First without requirements, then with some, the same again, and with nothing changed but the code."""
    say("uploads")
    times = 3 if stage.quick else 7
    with stage.server({"uploads_wheel_house": stage.grounds.wheel_house}) as server, stage.client() as client:
        new = [_until_answer(client, f"new-{number}", number) for number in range(times)]
        code_only = [_until_answer(client, "new-0", number) for number in range(100, 100 + times * 2)]
        stage.findings.judge(
            "code-only redeploy, until the new code answers", NOTHING, f"{median(code_only):.3f} s",
            median(code_only), "≤", 0.15, "s",
        )  # fmt: skip
        rows = [("new function, no requirements", new), ("new code, nothing else", code_only)]
        if not stage.quick:
            path = str(wheel(stage.grounds.new_wheels(), "probe"))
            needing = [_until_answer(client, f"needs-{number}", number, path) for number in range(3)]
            again = [_until_answer(client, "needs-0", number, path) for number in range(100, 103)]
            rows += [("new function, one requirement", needing), ("new code, the same requirement", again)]
        del server
    if not stage.quick:
        venv = [stage.floors.venv_s(stage.grounds.new_folder("venv") / "venv") for _ in range(3)]
        rows.append(("`python -m venv` with pip, as the original built for each upload", venv))
    stage.findings.table(
        "Uploads", "From the upload until the new code answers a call.", ("upload", "median ms", "max ms"),
        [(what, ms(median(found)), ms(max(found))) for what, found in rows],
    )  # fmt: skip


def _until_answer(client: Client, function: str, value: int, requirements: str = "") -> float:
    begun = time.perf_counter()
    client.deploy(function, f"def main():\n    return {value}\n", requirements)
    assert client.call(function) == value
    return time.perf_counter() - begun
