"""The machine from which a fleet is looked after: an inventory, and ansible-playbook."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.installation import CHECKOUT
from tests.hosts.host import Host
from tests.hosts.image import KEY

PLAYBOOKS = CHECKOUT / "deploy/ansible"
ANSIBLE = CHECKOUT / ".venv-ansible/bin"
OLDEST = CHECKOUT / ".venv-ansible-oldest/bin"  # that is supported
_LIMIT_S = 500.0
_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(.+?)\] \**$")
_CHANGED = re.compile(r"^changed: \[([^ \]]+)")
_RECAP = re.compile(r"^(\S+) +: (ok=.*)$")
_SSH = (
    "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes -o ConnectTimeout=5"
)


@dataclass(frozen=True)
class Played:
    """What a run of a playbook did. `recap` holds Ansible's counts of each host, `changed` the names of tasks."""

    status: int
    output: str
    recap: dict[str, dict[str, int]]
    changed: dict[str, list[str]]


class Control:
    """An inventory of hosts in the group `tinyfaas`, with variables for all and for each."""

    def __init__(self, folder: Path, hosts: list[Host], programs: Path = ANSIBLE) -> None:
        self.folder = folder
        self._programs = programs
        self.hosts = hosts
        self.variables: dict[str, Any] = {}
        self.own: dict[str, dict[str, Any]] = {host.name: {} for host in hosts}

    def play(self, playbook: str, *arguments: str, check: bool = True, all_are_there: bool = True) -> Played:
        """Run a playbook on all hosts; with `check` one that fails is an error that shows what it printed.

        So is a host that is not reached, which Ansible takes for none, unless not `all_are_there`.
        """
        group = {
            "hosts": {
                host.name: {"ansible_host": host.cable.address, **self.own[host.name]} for host in self.hosts
            },
            "vars": {"ansible_ssh_private_key_file": str(KEY), **self.variables},
        }  # fmt: skip
        played = play(self.folder, group, playbook, *arguments, check=check, programs=self._programs)
        assert not (check and all_are_there) or "Not reached, and left" not in played.output, played.output
        return played

    @contextlib.contextmanager
    def given(self, host: Host, **variables: Any) -> Iterator[None]:
        """Other variables for a host in the plays meanwhile."""
        before = self.own[host.name]
        self.own[host.name] = before | variables
        try:
            yield
        finally:
            self.own[host.name] = before

    def credential(self, host: Host, name: str) -> str:
        """A password that the play has made."""
        return (self.folder / "credentials" / host.name / name).read_text(encoding="utf-8").strip()


def play(
    folder: Path, group: dict[str, Any], playbook: str, *arguments: str, check: bool = True, programs: Path = ANSIBLE,
    limit_s: float = _LIMIT_S,
) -> Played:  # fmt: skip
    """Run a playbook of the checkout on the group `tinyfaas`, with an inventory in `folder`; see `Control.play`."""
    usual = {
        "ansible_user": "pi",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": _SSH,
    }
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"tinyfaas": group | {"vars": usual | group["vars"]}}), encoding="utf-8")
    command = [programs / "ansible-playbook", "--inventory", inventory, PLAYBOOKS / playbook]
    with tempfile.TemporaryDirectory(prefix="ssh-", ignore_cleanup_errors=True) as sockets:  # whose paths must be short
        environ = {
            "PATH": f"{programs}:/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"), "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
        }  # fmt: skip
        done = subprocess.run(
            [*map(str, command), *arguments], env=environ, cwd=folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit_s, check=False,
        )  # fmt: skip
    assert not check or done.returncode == 0, f"{playbook}: status {done.returncode}\n{done.stdout}"
    return _played(done.returncode, done.stdout)


def missing() -> str:
    """Why no playbook can be run here; empty where one can."""
    there = os.access(ANSIBLE / "ansible-playbook", os.X_OK)
    return "" if there else f"{ANSIBLE.parent.name} is not there: scripts/test hosts makes it"


def _played(status: int, output: str) -> Played:
    recap: dict[str, dict[str, int]] = {}
    changed: dict[str, list[str]] = defaultdict(list)
    task = ""
    for line in output.splitlines():
        if found := _TASK.match(line):
            task = found[1].rpartition(" : ")[2]
        elif found := _CHANGED.match(line):
            changed[found[1]].append(task)
        elif found := _RECAP.match(line):
            counts = (word.partition("=") for word in found[2].split())
            recap[found[1]] = {name: int(count) for name, _, count in counts}
    return Played(status, output, recap, dict(changed))
