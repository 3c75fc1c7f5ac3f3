"""The disk is full: calls go on, what can't be recorded is said, and all is well again when there is room."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.harness.bench import Bench
from tests.harness.load import Load
from tests.harness.tally import tally, wait_answered
from tests.harness.tmpfs import SmallDisk, small_disk
from tests.harness.waiting import eventually

SIZE_BYTES = 128 * 1024 * 1024  # a build leaves 64 MiB of it free
OLD = "def main(number): return ['old', number]"
NEW = "def main(number): return ['new', number]"


@pytest.fixture
def disk(bench: Bench) -> Iterator[SmallDisk]:
    made = small_disk(bench.grounds.new_folder("disk"), bench.grounds.account, SIZE_BYTES)
    if isinstance(made, str):
        pytest.skip(made)
    yield made
    bench.clear()
    made.unmount()


@pytest.mark.timeout(180)
def test_a_full_disk_stops_no_call_and_is_forgotten_when_there_is_room(
    bench: Bench, disk: SmallDisk, function: str
) -> None:
    broker = bench.broker()
    server = bench.server(broker, home=disk.folder).start()
    client = bench.client(broker)
    client.deploy(function, OLD)
    load = Load(bench.client(broker, topics=("faas/response/invoke/#",)), function)
    load.start()
    eventually(lambda: load.answered() > 100, "the load to flow")
    disk.fill()
    full_since = load.answered()
    said = server.log.wait(event="history_unrecorded")
    refused = client.upload(function, NEW)
    new = client.upload(f"{function}-2", NEW)
    eventually(lambda: load.answered() > full_since + 200, "answers while the disk is full")
    unrecorded = client.request("faas/admin/status")["queue"]["unrecorded"]
    served = client.call(function, 1)
    disk.make_room()
    recorded = len(client.request(f"faas/admin/logs/{function}", {"limit": 10_000})["logs"])
    eventually(
        lambda: len(client.request(f"faas/admin/logs/{function}", {"limit": 10_000})["logs"]) > recorded + 50,
        "records again",
    )
    load.stop()
    wait_answered(load)
    counts = tally("disk full", load)
    counts.say(unrecorded=unrecorded)
    accepted = client.upload(function, NEW)
    server.restart()
    calls = client.request(f"faas/admin/info/{function}")["calls"]
    assert "No space left" in said["error"] or "no space left" in said["error"]
    for failed in (refused, new):
        assert failed["status"] == "error"
        assert re.search("no space left|the disk has less than", failed["error"].lower()), failed
    assert served == ["old", 1]
    assert unrecorded > 0
    assert (counts.lost, counts.twice) == (set(), 0)
    assert accepted["status"] == "ok", accepted
    assert client.call(function, 2) == ["new", 2]
    assert client.request("faas/admin/list")["functions"] == [function]
    assert calls > 0
