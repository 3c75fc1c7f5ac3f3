"""Another version, rolled over the fleet: none lost, a broken one stopped, and the way back."""

from __future__ import annotations

import contextlib
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.load import COUNTING, Load
from tests.harness.tally import tally, wait_answered
from tests.harness.waiting import eventually
from tests.hosts.appliance import Appliance
from tests.hosts.control import Control
from tests.hosts.host import Host
from tests.hosts.wheels import wheels

PER_SECOND = 50
BATCHES = ("--extra-vars", '{"tinyfaas_serial": [1, 2]}')
BREAKS = {
    "does not start": ("tinyfaas/daemon.py", lambda code: f"{code}\nraise RuntimeError('this version is broken')\n"),
    "answers, and runs nothing": (
        "tinyfaas/child/__main__.py", lambda code: "raise RuntimeError('this version is broken')\n",
    ),
}  # fmt: skip


def version(folder: Path, number: str, changed: str = "", change: Callable[[str], str] = str) -> Path:
    """Wheels of another version: the one that is there, with another number and, where it is told, another file."""
    shutil.copytree(wheels(), folder)
    (old,) = folder.glob("tinyfaas-*.whl")
    before = old.name.split("-")[1]
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(folder / old.name.replace(before, number), "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith(("/METADATA", "/RECORD")):
                data = data.replace(before.encode(), number.encode())
            if name == changed:
                data = change(data.decode()).encode()
            target.writestr(name.replace(f"-{before}.dist-info", f"-{number}.dist-info"), data)
    old.unlink()
    return folder


def current(host: Host) -> str:
    """The version in force, without the digest of its code."""
    return host.run("readlink", "/opt/tinyfaas/current").stdout.partition("+")[0]


def test_an_upgrade_loses_no_request(grown: Control, tmp_path: Path) -> None:
    grown.variables["tinyfaas_wheels"] = str(version(tmp_path / "wheels", "0.1.1"))
    with contextlib.ExitStack() as stack:
        loads = []
        for host in grown.hosts:
            Appliance(host).deploy("counted", COUNTING)
            client = stack.enter_context(Appliance(host).client(lasting=True))
            loads.append(Load(client, "counted", PER_SECOND))
            loads[-1].start()
        for load in loads:
            eventually(lambda: load.answered() > PER_SECOND, "the load to run")  # noqa: B023
        start_s = time.monotonic()
        grown.play("upgrade.yml", *BATCHES)
        took_s = time.monotonic() - start_s
        for host, load in zip(grown.hosts, loads, strict=True):
            load.stop()
            wait_answered(load)
            counted = tally(f"upgrade of {host.name}", load, Appliance(host).runs("counted"))
            counted.say(seconds=f"{took_s:.0f}")
            assert (counted.lost, counted.run_twice) == (set(), set())
    assert {current(host) for host in grown.hosts} == {"0.1.1"}


@pytest.mark.parametrize("how", [
    "answers, and runs nothing", pytest.param("does not start", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_broken_version_stops_at_the_first_batch_which_goes_back_by_itself(
    grown: Control, tmp_path: Path, how: str
) -> None:
    before = [current(host) for host in grown.hosts]
    served = grown.variables["tinyfaas_wheels"]
    grown.variables |= {
        "tinyfaas_wheels": str(version(tmp_path / "wheels", "0.1.2", *BREAKS[how])), "tinyfaas_gate_s": 15,
    }  # fmt: skip
    try:
        played = grown.play("upgrade.yml", check=False)
    finally:
        grown.variables["tinyfaas_wheels"] = served
        del grown.variables["tinyfaas_gate_s"]
    assert played.status != 0
    assert f"Version {before[0]}" in played.output
    assert "serves again" in played.output
    assert "this version is broken" in played.output
    assert [current(host) for host in grown.hosts] == before
    assert [played.recap[host.name]["ok"] for host in grown.hosts[1:]] == [3, 3], "another host was begun"
    assert Appliance(grown.hosts[0]).invoke("hello") == {"message": "Hello, world!"}


def test_a_rollback_goes_back_and_forth(grown: Control) -> None:
    host = grown.hosts[0]
    before = host.run("readlink", "/opt/tinyfaas/previous").stdout.strip()
    grown.play("rollback.yml", "--limit", host.name)
    assert host.run("readlink", "/opt/tinyfaas/current").stdout.strip() == before
    assert Appliance(host).invoke("hello") == {"message": "Hello, world!"}
    grown.play("rollback.yml", "--limit", host.name)
    assert current(host) == "0.1.1"


@pytest.mark.slow
def test_no_more_than_two_versions_stay(grown: Control, tmp_path: Path) -> None:
    host = grown.hosts[1]
    for number in ("0.1.3", "0.1.4"):
        grown.variables["tinyfaas_wheels"] = str(version(tmp_path / number, number))
        grown.play("upgrade.yml", "--limit", host.name)
    folders = host.sh("cd /opt/tinyfaas && ls --directory *+*").split()
    assert sorted(name.partition("+")[0] for name in folders) == ["0.1.3", "0.1.4"]
