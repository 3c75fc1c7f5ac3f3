"""What a call writes to the disk."""

from __future__ import annotations

from pathlib import Path

from tests.bench.contestants import Contestant
from tests.bench.findings import NOTHING
from tests.bench.functions import ECHO
from tests.bench.peers import original
from tests.bench.progress import say
from tests.bench.stage import Stage
from tests.bench.trees import stored_bytes, written_bytes


def run(stage: Stage) -> None:
    """By the growth of the files, and by the pages that the kernel was given to write; the larger counts."""
    say("bytes written")
    calls = 3000 if stage.quick else 20_000
    with stage.server() as server, stage.client() as client:
        client.deploy("echo", ECHO)
        grown, written = _per_call(stage, server.contestant(), server.pid, server.data_dir, calls)
    worst = max(grown, written)
    floor, rows = NOTHING, [("tinyfaas", str(calls), f"{grown:.0f}", f"{written:.0f}")]
    if stage.with_peers:
        calls = 200
        with original(stage.port, stage.grounds.new_folder) as peer:
            their_grown, their_written = _per_call(stage, peer, peer.pid, peer.folder, calls)
        rows.append((peer.name, str(calls), f"{their_grown:.0f}", f"{their_written:.0f}"))
    stage.findings.judge(
        "written to disk per call (small answers)", floor, f"{worst:.0f} bytes", worst, "≤", 400, "bytes"
    )
    stage.findings.table(
        "Written to disk per call, small answers",
        "Growth of the files, and what the kernel counts as written, in whole pages; without the server's own log.",
        ("", "calls", "growth, bytes", "written, bytes"), rows,
    )  # fmt: skip


def _per_call(stage: Stage, contestant: Contestant, pid: int, folder: Path, calls: int) -> tuple[float, float]:
    stage.load(contestant, count=50)
    grown, written = stored_bytes(folder), written_bytes(pid)
    answered = stage.load(contestant, in_flight=8, count=calls).answered
    return (stored_bytes(folder) - grown) / answered, (written_bytes(pid) - written) / answered
