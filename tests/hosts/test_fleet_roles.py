"""The playbooks themselves: linters are silent, variables are described, old and new Ansible can read them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.harness.installation import CHECKOUT
from tests.hosts import control as ansible

pytestmark = pytest.mark.skipif(bool(ansible.missing()), reason=ansible.missing())

ROLES = sorted(path.name for path in (ansible.PLAYBOOKS / "roles").iterdir())
PLAYBOOKS = sorted(path.name for path in ansible.PLAYBOOKS.glob("*.yml"))


def said(*command: str | Path, status: int = 0) -> str:
    """What a command prints that must end well, run from the checkout's root."""
    environ = {"PATH": f"{ansible.ANSIBLE}:/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
    environ |= {"ANSIBLE_HOME": str(CHECKOUT / ".venv-ansible/home")}
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=300.0, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def read(file: Path) -> Any:
    """A file in YAML."""
    program = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))"
    return json.loads(said(ansible.ANSIBLE / "python", "-c", program, file))


def test_yamllint_has_nothing_to_say() -> None:
    assert said(ansible.ANSIBLE / "yamllint", "--strict", ".") == ""


def test_ansible_lint_has_nothing_to_say() -> None:
    said(ansible.ANSIBLE / "ansible-lint", "--offline")


@pytest.mark.parametrize("age", ["oldest", "newest"])
def test_every_playbook_can_be_read_by_the_oldest_and_the_newest_ansible(age: str) -> None:
    program = (ansible.OLDEST if age == "oldest" else ansible.ANSIBLE) / "ansible-playbook"
    if age == "oldest" and not program.exists():
        pytest.skip("ansible-core 2.14 is not there: it takes Python 3.11")
    inventory = ansible.PLAYBOOKS / "inventory/example.yml"
    said(program, "--syntax-check", "--inventory", inventory, *(ansible.PLAYBOOKS / name for name in PLAYBOOKS))


@pytest.mark.parametrize("role", ROLES)
def test_what_is_said_of_a_roles_variables_is_what_they_are(role: str) -> None:
    folder = ansible.PLAYBOOKS / "roles" / role
    defaults = read(folder / "defaults/main.yml")
    options = read(folder / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert {name: option["default"] for name, option in options.items()} == defaults
    readme = (folder / "README.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in readme.splitlines() if line.startswith("| `")]
    assert rows == list(defaults)
    assert all(option.get("no_log") for name, option in options.items() if name.endswith("_password"))


@pytest.mark.parametrize("role", ROLES)
def test_no_role_needs_a_collection(role: str) -> None:
    for file in (ansible.PLAYBOOKS / "roles" / role).rglob("*.yml"):
        assert "community." not in file.read_text(encoding="utf-8"), file
