"""A server in a unit with Delegate=, as systemd starts it, on whatever controllers this machine's tree has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.harness.account import Account, unprivileged
from tests.harness.bench import Bench
from tests.harness.broker import Broker
from tests.harness.fence import Fence
from tests.harness.installation import Installation
from tests.harness.server import Server
from tests.harness.unit import Unit, new_unit, pids_of
from tests.harness.waiting import eventually


@pytest.fixture
def broker(bench: Bench) -> Broker:
    """One of its own: on the shared one, another server would answer too."""
    return bench.broker()


@pytest.fixture
def unit(bench: Bench) -> Iterator[Unit]:
    """One that belongs to the servers' account, which is what Delegate= with User= does."""
    with new_unit() as unit:
        for path in (unit.path, unit.path / "cgroup.procs", unit.path / "cgroup.subtree_control"):
            bench.grounds.account.own(path)
        yield unit


@dataclass(frozen=True)
class InUnit(Installation):
    """An installation whose server is in a unit's group, and its account's, before it begins, as with systemd."""

    unit: Path = Path()
    account: Account = field(default_factory=unprivileged)

    @property
    def serve(self) -> list[str]:
        # After a kill, the group hands on controllers and takes no process: systemd removes it, or starts in the leaf.
        enter = f'{{ echo $$ >"{self.unit}/server/cgroup.procs" || echo $$ >"{self.unit}/cgroup.procs"; }} 2>/dev/null'
        change = f"setpriv --reuid {self.account.uid} --regid {self.account.gid} --clear-groups"
        return ["/bin/sh", "-c", f'{enter}; exec {change} "$@"', "sh", *super().serve]


@pytest.fixture
def delegated(bench: Bench, broker: Broker, unit: Unit) -> Iterator[Server]:
    grounds = bench.grounds
    installation = InUnit(grounds.installation.python, grounds.installation.copied, unit.path, grounds.account)
    root = Account(os.geteuid(), os.getegid())
    server = Server(installation, root, Fence(), grounds.new_folder("home"), broker)
    yield server.start()
    server.close()


def workers(unit: Unit) -> list[Path]:
    return sorted(unit.path.glob("worker-*"))


def test_each_worker_is_in_a_group_of_its_own(delegated: Server, bench: Bench, broker: Broker, unit: Unit) -> None:
    client = bench.client(broker)
    for name in ("one", "other"):
        client.deploy(name, "def main(): return open('/proc/self/cgroup').read()")
        client.call(name)

    assert delegated.pid in pids_of(unit.path / "server")
    assert [len(pids_of(group)) for group in workers(unit)] == [1, 1]


def test_what_a_function_starts_dies_with_its_worker(
    delegated: Server, bench: Bench, broker: Broker, unit: Unit
) -> None:
    client = bench.client(broker)
    code = """
        import os, subprocess
        def main():
            subprocess.Popen(["sleep", "600"], start_new_session=True)
            os._exit(1)
    """
    client.deploy("gone", code)

    assert client.invoke("gone")["code"] == "crashed"
    eventually(lambda: not workers(unit), "its group to be removed")
    assert len(pids_of(unit.path / "server")) <= 3  # server, fork server, and a sandbox that is made for the next


def test_a_server_that_was_killed_finds_its_subtree_again_and_sweeps_it(
    delegated: Server, bench: Bench, broker: Broker, unit: Unit
) -> None:
    client = bench.client(broker)
    client.deploy("echo", "def main(): return 1")
    client.call("echo")
    left = workers(unit)
    (unit.path / "worker-999").mkdir()  # root's, and not to be removed by the server: no reason not to start

    delegated.kill()
    assert workers(unit)[: len(left)] == left
    delegated.start()
    client.call("echo")

    assert [len(pids_of(group)) for group in workers(unit)] == [1, 0]
