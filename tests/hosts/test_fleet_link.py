"""A bridge: a node is administered from the centre, and goes on working when the link is down."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import pytest

from tests.harness.waiting import eventually
from tests.hosts.appliance import Appliance
from tests.hosts.control import Control
from tests.hosts.grown import AT_ONCE
from tests.hosts.host import Host

_CUT_S = 60.0


@pytest.fixture(scope="module")
def node(grown: Control) -> Host:
    return grown.hosts[1]


@pytest.fixture(scope="module")
def centre(grown: Control, node: Host) -> Iterator[Host]:
    """The broker that is open to others as the centre, with the node's bridged to it."""
    centre = grown.hosts[-1]
    rights = {"name": node.name, "acl": [f"readwrite fleet/{node.name}/#"]}
    grown.own[centre.name]["mosquitto_sensors"] = [*grown.own[centre.name]["mosquitto_sensors"], rights]
    both = (*AT_ONCE, "--limit", f"{centre.name},{node.name}")
    file = "/root/.config/tinyfaas/cli.toml"
    with grown.given(node, mosquitto_bridge={"host": centre.name, "tls": True}):
        grown.play("site.yml", *both)
        profile = "".join((
            "\n[node]\nusername = 'admin'\npassword_file = '/root/.config/tinyfaas/password'\n",
            f"base_topic = 'fleet/{node.name}/faas'\n",
        ))  # fmt: skip
        centre.write(file, centre.run("cat", file).stdout + profile, mode=0o600)
        yield centre
    grown.play("site.yml", *both)


def ask(centre: Host, *words: str, check: bool = True) -> str:
    """Speak to the bridged node, from the centre."""
    return Appliance(centre).cli(*words, "--profile", "node", check=check)


@pytest.mark.slow
def test_a_node_is_administered_from_the_centre(centre: Host, node: Host) -> None:
    eventually(lambda: "Hello" in ask(centre, "invoke", "hello", "--timeout", "5", check=False), "the bridge", 60.0)
    centre.write("/root/far/func.py", "def main(): return 'from afar'\n")
    assert "version 1 is ready" in ask(centre, "deploy", "/root/far", "--wait")
    assert Appliance(node).invoke("far") == "from afar"
    assert "far" in ask(centre, "list")


@pytest.mark.slow
def test_what_is_asked_while_the_link_is_down_is_answered_afterwards(centre: Host, node: Host) -> None:
    password = centre.run("cat", "/root/.config/tinyfaas/password").stdout.strip()
    far = f"fleet/{node.name}/faas"
    account = f"-u admin -P '{password}' -q 1"
    listen = f"mosquitto_sub {account} -c -i listener -t {far}/response/invoke/hello"
    centre.sh(f"{listen} -E")  # from here on the broker keeps the answers for it
    cut_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        for number in range(60):
            if number == 10:
                node.cable.pull()
                stack.callback(node.cable.plug)
            centre.sh(f'mosquitto_pub {account} -t {far}/invoke/hello -m \'{{"args": ["{number}"]}}\'')
        assert Appliance(node).invoke("hello", "alone") == {"message": "Hello, alone!"}
        eventually(lambda: time.monotonic() - cut_s > _CUT_S, "a minute", 2 * _CUT_S)
    greeted: set[str] = set()

    def everyone_is_greeted() -> bool:
        heard = centre.sh(f"{listen} -W 3", check=False).splitlines()
        greeted.update(json.loads(line)["result"]["message"] for line in heard)
        return greeted == {f"Hello, {who}!" for who in ("alone", *range(60))}

    eventually(everyone_is_greeted, "all answers", 2 * _CUT_S)
