"""From a bare Pi to one that answers, and to limits that the kernel holds. The tests build on one another."""

from __future__ import annotations

import json
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.arm.machine import Machine
from tests.arm.wheels import arm_wheels, unpack
from tests.harness.installation import CHECKOUT
from tests.hosts import control as ansible

pytestmark = pytest.mark.skipif(bool(ansible.missing()), reason=ansible.missing())

PLAY_S = 3600.0
HIGHEST_EXPOSURE = 3.0
UNIT_TESTS = "tests/unit/test_cgroups.py"
NEEDED = (
    "cronsim", "hypothesis", "jsonschema", "paho-mqtt", "psutil", "pytest>=8", "pytest-timeout", "pyyaml", "sdnotify",
    "structlog",
)  # fmt: skip
GROUP = "/sys/fs/cgroup/system.slice/tinyfaas.service"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that tinyfaas needs there."""
    return arm_wheels(tmp_path_factory.mktemp("wheels") / "arm")


@pytest.fixture(scope="module")
def pi(machine: Machine, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The machine after `site.yml`, played from here: Ansible itself runs at full speed, and what it sends does not."""
    variables = {
        "ansible_host": "127.0.0.1", "ansible_port": machine.port, "ansible_ssh_private_key_file": str(machine.key),
        "ansible_ssh_common_args": machine.ssh_options, "tinyfaas_wheels": str(wheels), "tinyfaas_gate_s": 900,
    }  # fmt: skip
    start_s = time.monotonic()
    ansible.play(
        tmp_path_factory.mktemp("control"), {"hosts": {"pi-arm": {}}, "vars": variables}, "site.yml", limit_s=PLAY_S
    )
    print(f"site.yml: a bare emulated Pi in {time.monotonic() - start_s:.0f} s")
    return machine


def deploy(pi: Machine, function: str, code: str, settings: str = "") -> None:
    pi.write(f"/root/{function}/func.py", dedent(code))
    pi.write(f"/root/{function}/function.toml", settings)
    pi.run(f"tinyfaas deploy /root/{function} --wait", timeout_s=900.0)


def limits_in_force(pi: Machine) -> dict[str, str]:
    found: dict[str, Any] = json.loads(pi.run("tinyfaas status --json"))
    return dict(found["limits"])


def main_pid(pi: Machine) -> int:
    return int(pi.run("systemctl show --property MainPID --value tinyfaas"))


def test_a_bare_pi_becomes_an_appliance_that_answers(pi: Machine) -> None:
    assert pi.run("uname --machine").strip() == "aarch64"
    assert "Hello" in pi.run("tinyfaas invoke hello")


def test_it_holds_limits_by_control_groups_and_closes_functions_in(pi: Machine) -> None:
    found = limits_in_force(pi)

    assert found["cgroup"] == "cpu, memory, pids"
    assert found["sandbox"] == "bubblewrap", found


def test_a_function_that_allocates_without_end_is_ended_and_the_server_lives(pi: Machine) -> None:
    server = main_pid(pi)
    deploy(pi, "hog", "def main(): return len(b'x' * 500_000_000)", "memory_mb = 32")

    done = pi.tried("tinyfaas invoke hog --json")

    assert done.returncode != 0
    assert "out_of_memory" in done.stdout
    assert main_pid(pi) == server
    assert "Hello" in pi.run("tinyfaas invoke hello")


def test_the_kernel_knows_the_limit_of_a_workers_memory(pi: Machine) -> None:
    """So slow a machine gives the watch the time to be first: that the kernel kills, the unit tests show below."""
    deploy(pi, "modest", "def main(): return 1", "memory_mb = 32")
    pi.run("tinyfaas invoke modest")

    limits = pi.run(f"cat {GROUP}/worker-*/memory.max").split()

    assert str(32 * 1024 * 1024) in limits


def test_a_function_has_no_more_processes_than_allowed(pi: Machine) -> None:
    code = """
        import os, signal

        def main():
            for n in range(50):
                try:
                    os.fork() or signal.pause()
                except OSError:
                    return n
    """
    deploy(pi, "bomb", code, "max_processes = 8")

    assert int(pi.run("tinyfaas invoke bomb")) <= 8


def test_a_function_has_no_more_of_the_processor_than_allowed(pi: Machine) -> None:
    code = """
        import time

        def main():
            began_s, ran_s = time.monotonic(), time.process_time()
            while time.monotonic() < began_s + 5:
                pass
            return (time.process_time() - ran_s) / 5
    """
    deploy(pi, "spin", code, "cpu_percent = 25")

    assert 0.1 < float(pi.run("tinyfaas invoke spin")) < 0.35


def test_the_units_exposure_is_low(pi: Machine) -> None:
    told = pi.run("systemd-analyze security --no-pager tinyfaas").splitlines()[-1]

    print(told)
    assert float(told.partition("service: ")[2].split()[0]) <= HIGHEST_EXPOSURE


def test_every_unit_test_of_control_groups_runs_where_all_controllers_are(
    pi: Machine, wheels: Path, tmp_path: Path
) -> None:
    unpack(wheels, tmp_path / "packages", *NEEDED)
    pi.copy(tmp_path, "/opt", "packages")
    pi.copy(
        CHECKOUT, "/opt/checkout", "deploy", "docs", "functions", "LICENSE", "pyproject.toml", "README.md", "scripts",
        "tests", "tinyfaas",
    )  # fmt: skip
    said = pi.run(f"cd /opt/checkout && PYTHONPATH=/opt/packages python3 -m pytest {UNIT_TESTS}", timeout_s=PLAY_S)

    assert " passed" in said
    assert "skipped" not in said, said


def test_without_the_memory_controller_limits_still_hold_and_the_doctor_says_so(pi: Machine) -> None:
    pi.reboot("cgroup_disable=memory")

    found = limits_in_force(pi)
    assert (found["cgroup"], found["memory"]) == ("cpu, pids", "watch")
    assert "out_of_memory" in pi.tried("tinyfaas invoke hog --json").stdout
    assert "Hello" in pi.run("tinyfaas invoke hello")
    checks = pi.tried("tinyfaas doctor").stdout
    assert any(line.split()[:3] == ["warn", "memory", "cgroup"] for line in checks.splitlines()), checks
