"""Commands that go on until Ctrl-C, on two nodes: logs -f, top, dev; and what deploy does with more than one node."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.bench import Bench, Grounds
from tests.harness.broker import Broker
from tests.harness.client import Client
from tests.harness.commandline import Ended, Running, run
from tests.harness.server import Server
from tests.harness.waiting import eventually
from tinyfaas.exits import Exit

ECHO = "def main(*args): return list(args)"
PICKY = "def main(x):\n    print('looking at', x)\n    if x < 0: raise ValueError('too little')\n    return x\n"


@dataclass
class Fleet:
    """A broker with two nodes, and a client."""

    broker: Broker
    servers: tuple[Server, Server]
    client: Client

    def tinyfaas(self, *argv: str) -> Ended:
        """Run a command."""
        return run(self.broker.port, *argv)

    def running(self, *argv: str, terminal: bool = False) -> Running:
        """Start a command that goes on."""
        return Running(self.broker.port, *argv, terminal=terminal)


@pytest.fixture(scope="module")
def fleet(grounds: Grounds) -> Iterator[Fleet]:
    bench = Bench(grounds)
    broker = bench.broker()
    first, second = bench.server(broker).start(), bench.server(broker).start()
    yield Fleet(broker, (first, second), bench.client(broker))
    bench.clear()


def folder_of(tmp_path: Path, name: str, code: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "func.py").write_text(code, encoding="utf-8")
    return folder


def nodes_of(answer: str) -> list[str]:
    return [each["node"] for each in json.loads(answer)["nodes"]]


def test_deploy_waits_for_every_node_and_uploads_while_one_lacks_it(
    fleet: Fleet, tmp_path: Path, function: str
) -> None:
    folder, (first, second) = folder_of(tmp_path, function, ECHO), fleet.servers
    assert "version 1 is ready" in fleet.tinyfaas("deploy", str(folder), "--node", first.node, "--wait").stdout
    both = fleet.tinyfaas("deploy", str(folder), "--wait", "--json")
    assert both.returncode == Exit.OK, both.stderr
    assert sorted(nodes_of(both.stdout)) == sorted([first.node, second.node])
    again = fleet.tinyfaas("deploy", str(folder), "--node", second.node, "--wait")
    assert again.stdout == f"{function}: version 1 is current, nothing has changed\n"


def test_what_one_node_refuses_is_told_with_what_the_other_did(fleet: Fleet, tmp_path: Path, function: str) -> None:
    first, _ = fleet.servers
    code = (
        f"import os\nif os.environ['TINYFAAS_NODE'] == '{first.node}': raise ValueError('not here')\ndef main(): ...\n"
    )
    ended = fleet.tinyfaas("deploy", str(folder_of(tmp_path, function, code)), "--wait", "--json")
    assert ended.returncode == Exit.FAILED
    assert "tinyfaas: build_failed: ValueError: not here" in ended.stderr
    statuses = {each["node"]: each["status"] for each in json.loads(ended.stdout)["nodes"]}
    assert statuses == {first.node: "error", fleet.servers[1].node: "ok"}


def test_logs_are_followed_wherever_answers_go_and_over_a_broker_that_was_away(fleet: Fleet, function: str) -> None:
    node = fleet.servers[0].node
    upload = fleet.client.upload(function, PICKY, node=node)
    assert upload["status"] == "ok", upload
    fleet.client.invoke(function, 1)
    with fleet.running("logs", function, "--follow") as follow:
        follow.wait(f"{function}(1) -> 1")
        fleet.client.invoke(function, 0)
        follow.wait("  | looking at 0", f"{function}(0) -> 0")
        fleet.client.request(f"faas/invoke/{function}", {"args": [2]}, ResponseTopic="reply/hidden")
        follow.wait(f"{function}(2) -> 2")
        fleet.client.invoke(function, -3)
        follow.wait(f"{function}(-3) -> function_error: ValueError: too little", '    File "func.py", line 3, in main')
        fleet.broker.stop()
        follow.wait("the connection to the broker at", "trying again")
        fleet.broker.start()
        fleet.client.wait_connected()
        eventually(lambda: fleet.tinyfaas("list", "--timeout", "1").returncode == Exit.OK, "the servers to be back")
        fleet.client.invoke(function, 4)
        follow.wait(f"{function}(4) -> 4")
        assert follow.interrupt() == Exit.OK
    calls = re.findall(rf"{function}\((-?\d+)\)", follow.text)
    assert calls == ["1", "0", "2", "-3", "4"]


def test_only_what_failed_is_followed_as_json(fleet: Fleet, function: str) -> None:
    assert fleet.client.upload(function, PICKY, node=fleet.servers[0].node)["status"] == "ok"
    with fleet.running("logs", function, "-f", "--failed", "--json") as follow:
        fleet.client.invoke(function, 1)
        fleet.client.invoke(function, -1)
        follow.wait('"code": "function_error"')
        assert follow.interrupt() == Exit.OK
    assert [(record["args"], record["status"]) for record in follow.lines()] == [([-1], "error")]


def test_following_what_is_not_there_says_so(fleet: Fleet) -> None:
    with fleet.running("logs", "nobody", "-f") as follow:
        assert follow.end() == Exit.FAILED
    assert follow.text == "tinyfaas: not_found: no such function: nobody; tinyfaas list shows what there is\n"


def test_top_shows_every_node_and_function_once(fleet: Fleet, function: str) -> None:
    assert fleet.client.upload(function, PICKY, node=fleet.servers[1].node)["status"] == "ok"
    with fleet.running("top", "--json", "--interval", "0.5") as top:
        top.wait(f'"{function}"', '"calls": 0')
        for number in (1, 2, -3):
            fleet.client.invoke(function, number)
        top.wait('"calls": 3')
        assert top.interrupt() == Exit.OK
    last = top.lines()[-1]
    assert {node["node"]: node["state"] for node in last["nodes"]} == {each.node: "online" for each in fleet.servers}
    assert all(node["server_rss_bytes"] > 0 and node["memory_available_bytes"] > 0 for node in last["nodes"])
    shown = next(each for each in last["functions"] if each["function"] == function)
    assert (shown["node"], shown["calls"], shown["errors"]) == (fleet.servers[1].node, 3, 1)
    assert 0 < shown["p50_ms"] <= shown["p99_ms"]
    assert any(
        each["calls_per_s"] > 0 and each["errors_per_s"] > 0
        for line in top.lines() for each in line["functions"] if each["function"] == function
    )  # fmt: skip


def test_top_once_is_plain_text_for_whoever_reads_it(fleet: Fleet) -> None:
    ended = fleet.tinyfaas("top", "--once", "--interval", "0.5", "--node", fleet.servers[0].node)
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    assert "\x1b" not in ended.stdout
    rows = [line.split("\t")[0] for line in ended.stdout.splitlines()]
    assert rows[2:4] == ["NODE", fleet.servers[0].node]
    assert fleet.servers[1].node not in ended.stdout


@pytest.mark.parametrize("ending", ["q", "\x03"])
def test_top_on_a_terminal_is_a_screen_that_goes_away_again(fleet: Fleet, ending: str) -> None:
    with fleet.running("top", "--interval", "0.3", terminal=True) as top:
        top.wait("\x1b[?1049h", fleet.servers[0].node, fleet.servers[1].node, "online")
        since = len(top.text)
        top.wait("\x1b[H", fleet.servers[0].node, since=since)  # and again
        top.type(ending)
        assert top.end() == Exit.OK
    assert top.text.rstrip().endswith("\x1b[?25h\x1b[?1049l")


def test_dev_deploys_what_is_saved_and_shows_what_is_called(fleet: Fleet, tmp_path: Path, function: str) -> None:
    folder, node = folder_of(tmp_path, function, "def main(x): return x"), fleet.servers[0].node
    with fleet.running("deploy", str(folder), "--node", node, "--wait", terminal=True) as deploy:
        assert deploy.end() == Exit.OK
    assert "\r\x1b[K[======> ] " in deploy.text  # a bar
    assert f"{function}: version 1 is ready" in deploy.text
    with fleet.running("dev", str(folder), "--node", node, terminal=True) as dev:
        dev.wait("version 1 is current, nothing has changed")
        fleet.client.invoke(function, 1)
        dev.wait(f"{function}(1) -> ")
        (folder / "func.py").write_text("def main(x): print(x, 'by zero'); return x / 0", encoding="utf-8")
        dev.wait("version 2 is ready")
        fleet.client.invoke(function, 2)
        dev.wait("  | 2 by zero", f"{function}(2) -> ", "ZeroDivisionError")
        (folder / "func.py").write_text("def main(x: return", encoding="utf-8")
        dev.wait("build_failed: SyntaxError")
        (folder / "function.toml").write_text("timeout_s = ", encoding="utf-8")
        dev.wait("function.toml: Invalid value")
        (folder / "function.toml").write_text("timeout_s = 3.0", encoding="utf-8")
        (folder / "func.py").write_text("def main(x): return 'well'", encoding="utf-8")
        dev.wait("version 3 is ready")
        dev.type("\x03")
        assert dev.end() == Exit.OK
    assert "Traceback (most recent call last):\r\n  File" not in dev.text
    assert json.loads(fleet.tinyfaas("info", function, "--json").stdout)["config"]["timeout_s"] == 3.0


def test_deploy_waits_for_a_node_until_it_goes_offline(fleet: Fleet, tmp_path: Path, function: str) -> None:
    topic = "faas/node/ghost"
    presence = {"node": "ghost", "instance": "i", "state": "online"}
    fleet.client.publish(topic, presence, retain=True, wait=True)
    try:
        folder = folder_of(tmp_path, function, ECHO)
        with fleet.running("deploy", str(folder), "--force", "--wait") as deploy:
            deploy.wait(f"{function}: ready")
            fleet.client.wait_topic(f"faas/response/admin/upload/{function}", node=fleet.servers[0].node)
            fleet.client.wait_topic(f"faas/response/admin/upload/{function}", node=fleet.servers[1].node)
            fleet.client.publish(topic, {**presence, "state": "offline"}, retain=True)
            assert deploy.end() == Exit.OK
    finally:
        fleet.client.publish(topic, b"", retain=True, wait=True)
    assert "ghost" not in deploy.text
    assert deploy.text.count("version 1 is ready") == 2
