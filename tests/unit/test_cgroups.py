from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.account import unprivileged
from tests.harness.bench import Grounds
from tests.harness.unit import Unit, new_unit, pids_of
from tests.harness.waiting import eventually
from tinyfaas import cgroups
from tinyfaas.cgroups import Delegation, Group
from tinyfaas.model import Limits

LIMITS = Limits(memory_mb=32, max_processes=8, cpu_percent=50)
MARK = "user.delegate"
NOBODY_ELSE = 64_999


@pytest.fixture
def bare_unit() -> Iterator[Unit]:
    """A unit without Delegate=, with a process that stands for the server."""
    with new_unit() as unit:
        unit.started("sleep", "600")
        yield unit


@pytest.fixture
def unit(bare_unit: Unit) -> Unit:
    """A unit with Delegate=yes."""
    os.setxattr(bare_unit.path, MARK, b"1")
    return bare_unit


@pytest.fixture
def delegation(unit: Unit) -> Delegation:
    found = unit.delegation()
    assert found.missing == ""
    return found


@pytest.fixture
def group(delegation: Delegation) -> Group:
    return delegation.group(LIMITS)


def orphan_in(unit: Unit, group: Path) -> int:
    """A process that is nobody's child any more."""
    launcher = unit.start("/bin/sh", "-c", "sleep 600 >/dev/null & echo $!", group=group)
    return int(launcher.communicate()[0])


def need(delegation: Delegation, controller: str) -> None:
    if controller not in delegation.controllers:
        pytest.skip(f"the controller {controller} is not in this machine's control groups v2")


def test_the_server_moves_into_a_leaf_beside_its_workers(unit: Unit) -> None:
    child = unit.started("sleep", "600")

    delegation = unit.delegation()

    assert delegation.missing == ""
    assert pids_of(unit.path) == []
    assert set(pids_of(unit.path / "server")) == {unit.server, child}


def test_a_server_that_is_in_its_leaf_already_finds_the_same_subtree(unit: Unit) -> None:
    first, second = unit.delegation(), unit.delegation()

    assert second.missing == ""
    assert second.controllers == first.controllers
    assert not (unit.path / "server" / "server").exists()


def test_all_controllers_that_are_offered_are_handed_on(unit: Unit) -> None:
    offered = (unit.path / "cgroup.controllers").read_text(encoding="ascii").split()

    assert unit.delegation().controllers == {"cpu", "memory", "pids"}.intersection(offered)


def test_an_unprivileged_server_divides_what_was_given_to_it(bare_unit: Unit, grounds: Grounds) -> None:
    account, path = unprivileged(), bare_unit.path
    for each in (path, path / "cgroup.procs", path / "cgroup.subtree_control"):  # what Delegate= with User= does
        account.own(each)
    Group(path).kill()
    server = f"""if True:
        import os, subprocess, sys
        from pathlib import Path
        from tinyfaas.cgroups import Delegation
        from tinyfaas.model import Limits

        os.setgroups([])
        os.setresgid({account.gid}, {account.gid}, {account.gid})
        os.setresuid({account.uid}, {account.uid}, {account.uid})
        delegation = Delegation(Path({str(bare_unit.mount)!r}))
        assert not delegation.missing, delegation.missing
        group = delegation.group(Limits())
        child = subprocess.Popen(["sleep", "600"])
        group.add(child.pid)
        print(Path("/proc/self/cgroup").read_text(), Path(f"/proc/{{child.pid}}/cgroup").read_text())
        group.remove()
        sys.exit(child.wait())
    """
    process = bare_unit.start(str(grounds.installation.python), "-c", server)
    said = process.communicate()[0].decode()

    assert process.returncode == 256 - signal.SIGKILL, said
    assert f"{path.name}/server\n" in said
    assert f"{path.name}/worker-1\n" in said


def test_root_does_not_take_what_nobody_gave_it(bare_unit: Unit) -> None:
    delegation = bare_unit.delegation()

    assert "Delegate=yes" in delegation.missing
    assert pids_of(bare_unit.path) == [bare_unit.server]


def test_the_root_of_the_hierarchy_is_never_divided(unit: Unit) -> None:
    pid = unit.started("sleep", "600", group=unit.mount)

    assert "root of the control groups" in Delegation(unit.mount, Path(f"/proc/{pid}/cgroup")).missing


def test_what_the_unit_has_left_without_a_parent_moves_along(unit: Unit) -> None:
    orphan = orphan_in(unit, unit.path)

    assert unit.delegation().missing == ""
    assert set(pids_of(unit.path / "server")) == {unit.server, orphan}


def test_the_leaf_of_another_server_is_left_alone(unit: Unit) -> None:
    unit.delegation()
    stranger = orphan_in(unit, unit.path / "server")

    assert f"not ours, such as {stranger}" in unit.delegation().missing


def test_without_control_groups_the_reason_is_said(tmp_path: Path) -> None:
    delegation = Delegation(tmp_path)

    assert f"below {tmp_path}" in delegation.missing
    with pytest.raises(OSError, match="no control groups"):
        delegation.group(LIMITS)
    delegation.sweep()
    delegation.close()


def test_a_process_brings_itself_in_by_a_descriptor(unit: Unit, delegation: Delegation) -> None:
    group = delegation.group(LIMITS)
    fd = group.procs_fd()
    assert not os.get_inheritable(fd)

    process = subprocess.Popen([sys.executable, "-c", f"import os, time; os.write({fd}, b'0'); time.sleep(600)"],
                               pass_fds=[fd])  # fmt: skip
    os.close(fd)
    unit.processes.append(process)

    eventually(lambda: pids_of(unit.path / "worker-1") == [process.pid], "the process to be in")


@pytest.mark.parametrize("call", [435, 9999], ids=["clone3", "refused"])
def test_the_fork_server_forks_into_a_group(unit: Unit, group: Group, call: int) -> None:
    fd = group.folder_fd()
    assert not os.get_inheritable(fd)
    script = f"""if True:
        import os, time
        from tinyfaas.child import faascell
        faascell._CLONE3 = {call}
        if faascell.fork_into({fd}) == 0:
            if os.fork() == 0:
                time.sleep(600)
        time.sleep(600)
    """
    process = subprocess.Popen([sys.executable, "-c", script], pass_fds=[fd])
    os.close(fd)
    unit.processes.append(process)

    eventually(lambda: process.poll() or len(pids_of(unit.path / "worker-1")) == 2, "child and grandchild to be in")
    assert process.pid not in pids_of(unit.path / "worker-1")


def test_what_daemonises_in_a_group_dies_with_it(unit: Unit, group: Group) -> None:
    daemons = "for i in 1 2 3; do (setsid sh -c 'sleep 600 & sleep 600' &); done; sleep 600"
    unit.started("/bin/sh", "-c", daemons, group=unit.path / "worker-1")
    eventually(lambda: len(pids_of(unit.path / "worker-1")) >= 7, "all to be started")

    group.remove()

    assert not (unit.path / "worker-1").exists()
    assert pids_of(unit.path / "server") == [unit.server]


@pytest.mark.parametrize("kernel", ["cgroup.kill", "before-5.14"])
def test_a_fork_bomb_ends_however_fast_it_forks(
    unit: Unit, delegation: Delegation, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = delegation.group(Limits(max_processes=1000))
    monkeypatch.setattr(cgroups, "_KILL", kernel)
    bomb = f"""if True:
        import os, resource
        resource.setrlimit(resource.RLIMIT_NPROC, (100, 100))
        os.setuid({NOBODY_ELSE})  # root has no such limit, and others may have used up nobody's
        while True:
            try: os.fork()
            except OSError: pass
    """
    unit.start(sys.executable, "-S", "-c", bomb, group=unit.path / "worker-1")
    eventually(lambda: len(pids_of(unit.path / "worker-1")) > 20, "the bomb to go off")

    group.remove()

    assert not (unit.path / "worker-1").exists()


def test_a_zombie_does_not_hold_a_group_up(unit: Unit, group: Group) -> None:
    process = unit.start("/bin/true", group=unit.path / "worker-1")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    group.remove()

    assert not (unit.path / "worker-1").exists()


def test_groups_that_a_worker_made_go_with_it(unit: Unit, group: Group) -> None:
    inner = unit.path / "worker-1" / "a" / "b"
    inner.mkdir(parents=True)
    unit.started("sleep", "600", group=inner)

    group.remove()

    assert not (unit.path / "worker-1").exists()


def test_what_an_earlier_run_left_behind_is_swept_away(unit: Unit, group: Group) -> None:
    left = unit.started("sleep", "600", group=unit.path / "worker-1")
    later = unit.delegation()
    fresh = later.group(LIMITS)

    later.sweep()

    assert list(unit.path.glob("worker-*")) == []
    assert unit.processes[-1].wait() == -signal.SIGKILL
    assert left == unit.processes[-1].pid
    assert pids_of(unit.path / "server") == [unit.server]
    fresh.remove()  # twice does no harm


def test_numbers_that_are_taken_are_passed_over_also_by_many_threads(unit: Unit, delegation: Delegation) -> None:
    (unit.path / "worker-3").mkdir()

    threads = [threading.Thread(target=delegation.group, args=[LIMITS]) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(list(unit.path.glob("worker-*"))) == 11


def test_a_group_that_is_gone_counts_nothing_and_raises_nothing(group: Group) -> None:
    group.remove()

    assert group.memory_bytes() is None
    assert (group.oom_kills(), group.pids_refused(), group.cpu_throttled_s()) == (0, 0, 0)
    group.kill()
    group.remove()


def test_who_uses_more_memory_than_allowed_is_killed_and_counted(unit: Unit, delegation: Delegation) -> None:
    need(delegation, "memory")
    group = delegation.group(LIMITS)
    process = unit.start(sys.executable, "-c", "b = b'x' * 100_000_000; input()", group=unit.path / "worker-1")

    assert process.wait() == -signal.SIGKILL
    assert group.oom_kills() > 0


def test_what_is_used_is_told_without_what_was_merely_read(unit: Unit, delegation: Delegation, tmp_path: Path) -> None:
    need(delegation, "memory")
    group = delegation.group(LIMITS)
    (tmp_path / "file").write_bytes(bytes(20_000_000))
    script = (
        f"b = bytearray(b'x' * 10_000_000); open({str(tmp_path / 'file')!r}, 'rb').read(); print(1, flush=1); input()"
    )
    process = unit.start(sys.executable, "-c", script, group=unit.path / "worker-1")
    assert process.stdout is not None
    process.stdout.read(1)

    assert 10_000_000 < (group.memory_bytes() or 0) < 20_000_000


def test_more_processes_than_allowed_are_refused_and_counted(unit: Unit, delegation: Delegation) -> None:
    need(delegation, "pids")
    group = delegation.group(LIMITS, extra_tasks=2)
    script = """if True:
        import os, signal
        try:
            for n in range(20):
                os.fork() or signal.pause()
        except OSError:
            print(n, flush=True)
    """
    process = unit.start(sys.executable, "-c", script, group=unit.path / "worker-1")
    assert process.stdout is not None

    assert int(process.stdout.readline()) == LIMITS.max_processes + 2 - 1
    assert group.pids_refused() == 1


def test_who_spins_has_half_a_core_of_what_it_would_take(unit: Unit, delegation: Delegation) -> None:
    need(delegation, "cpu")
    group = delegation.group(LIMITS)
    began_s = time.monotonic()
    pid = unit.started(sys.executable, "-c", "while True: pass", group=unit.path / "worker-1")

    eventually(lambda: group.cpu_throttled_s() > 0.5, "the process to be held up")

    ran_s = sum(map(float, Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[13:15])) / os.sysconf(
        "SC_CLK_TCK"
    )
    assert ran_s < 0.7 * (time.monotonic() - began_s)
