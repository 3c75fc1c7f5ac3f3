"""The command line as a process, against a real server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bench import Bench
from tests.harness.commandline import Ended, run
from tests.harness.server import Server
from tests.harness.waiting import eventually, free_port
from tinyfaas.exits import Exit

Tinyfaas = Callable[..., Ended]


@pytest.fixture
def tinyfaas(server: Server) -> Tinyfaas:
    """The command line, set to the shared server's broker."""
    return lambda *argv, **variables: run(server.broker.port, *argv, **variables)


@pytest.fixture
def folder(tmp_path: Path, function: str) -> Path:
    """The folder of a function that returns what it is given; given nothing, calling it is a mistake."""
    folder = tmp_path / function
    folder.mkdir()
    (folder / "func.py").write_text("def main(x, n=0): return [x, n]\n", encoding="utf-8")
    return folder


@pytest.fixture
def deployed(tinyfaas: Tinyfaas, folder: Path) -> str:
    """The name of that function, deployed."""
    ended = tinyfaas("deploy", str(folder), "--wait")
    assert ended.returncode == Exit.OK, ended.stderr
    return folder.name


def test_deploy_shows_the_way_to_the_first_version(tinyfaas: Tinyfaas, folder: Path) -> None:
    ended = tinyfaas("deploy", str(folder), "--wait")
    assert ended.returncode == Exit.OK, ended.stderr
    assert ended.stdout.startswith(f"{folder.name}: version 1 is ready")
    phases = [line.split(": ")[1].split(",")[0] for line in ended.stderr.splitlines()]
    assert (phases[0], phases[-1]) == ("queued", "ready")


def test_deploy_without_wait_leaves_the_build_to_the_server(tinyfaas: Tinyfaas, folder: Path) -> None:
    ended = tinyfaas("deploy", str(folder))
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    assert "taken by" in ended.stdout


def test_deploy_if_changed_uploads_a_folder_once(tinyfaas: Tinyfaas, deployed: str, folder: Path) -> None:
    again = tinyfaas("deploy", str(folder), "--if-changed", "--wait")
    assert again.stdout == f"{deployed}: version 1 is current, nothing has changed\n"
    (folder / "function.toml").write_text("timeout_s = 2.5\n", encoding="utf-8")
    assert "version 2 is ready" in tinyfaas("deploy", str(folder), "--if-changed", "--wait").stdout
    assert "nothing has changed" in tinyfaas("deploy", str(folder), "--if-changed", "--wait").stdout


def test_a_setting_that_can_not_be_used_is_reported_without_wait(tinyfaas: Tinyfaas, folder: Path) -> None:
    (folder / "function.toml").write_text('timeout_s = "long"\n', encoding="utf-8")
    ended = tinyfaas("deploy", str(folder))
    assert ended.returncode == Exit.FAILED
    assert ended.stderr.startswith("tinyfaas: bad_request: config.timeout_s: 'long' is not a number")


def test_a_build_that_fails_says_why(tinyfaas: Tinyfaas, folder: Path) -> None:
    (folder / "func.py").write_text("import no_such_module\n", encoding="utf-8")
    ended = tinyfaas("deploy", str(folder), "--wait")
    assert ended.returncode == Exit.FAILED
    assert "tinyfaas: build_failed: ModuleNotFoundError: No module named 'no_such_module'" in ended.stderr


def test_several_folders_are_deployed_in_one_go_and_each_is_told(tinyfaas: Tinyfaas, folder: Path) -> None:
    home = folder.parent
    for name, code in (("good", "def main(): return 1\n"), ("bad", "1/0\n")):
        (home / f"{folder.name}-{name}").mkdir()
        (home / f"{folder.name}-{name}" / "func.py").write_text(code, encoding="utf-8")
    ended = tinyfaas("deploy", "--all", str(home), "--wait")
    assert ended.returncode == Exit.FAILED
    assert [line.partition(":")[0] for line in ended.stdout.splitlines()] == [folder.name, f"{folder.name}-good"]
    assert "build_failed: ZeroDivisionError" in ended.stderr
    again = tinyfaas("deploy", str(folder), str(home / f"{folder.name}-good"), "--wait", "--json")
    assert [answer["changed"] for answer in json.loads(again.stdout)] == [False, False]
    assert tinyfaas("deploy", str(folder), "--force", "--wait").stdout.startswith(f"{folder.name}: version 2 is ready")


def test_arguments_may_come_from_stdin(tinyfaas: Tinyfaas, deployed: str) -> None:
    assert json.loads(tinyfaas("invoke", deployed, "-", stdin="[3]").stdout) == [3, 0]
    assert json.loads(tinyfaas("invoke", deployed, "-", stdin='{"args": [3], "kwargs": {"n": 4}}').stdout) == [3, 4]
    assert json.loads(tinyfaas("invoke", deployed, "-", stdin='{"n": 4}').stdout) == [{"n": 4}, 0]
    bad = tinyfaas("invoke", deployed, "-", stdin="no json")
    assert (bad.returncode, bad.stdout) == (Exit.USAGE, "")
    assert bad.stderr.startswith("tinyfaas: stdin: is not JSON: ")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_is_called_asynchronously_is_found_by_its_id(tinyfaas: Tinyfaas, deployed: str, protocol: str) -> None:
    ended = tinyfaas("call", deployed, "5", "--async", TINYFAAS_MQTT_PROTOCOL=protocol)
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    request_id = ended.stdout.strip()

    def record() -> Any:
        logs = json.loads(tinyfaas("logs", deployed, "--request", request_id, "--json").stdout)["logs"]
        return logs and logs[0]

    assert eventually(record, "the call in the logs")["result"] == [5, 0]
    assert "result\t[5, 0]" in tinyfaas("logs", deployed, "--request", request_id).stdout.splitlines()


def test_redrive_says_how_many_dead_letters_there_were(tinyfaas: Tinyfaas, deployed: str) -> None:
    assert tinyfaas("redrive", deployed).stdout == f"{deployed}: 0 dead letters queued to run again\n"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_invoke_prints_the_result(tinyfaas: Tinyfaas, deployed: str, protocol: str) -> None:
    ended = tinyfaas("invoke", deployed, '{"a": "ä"}', "--kwarg", "n=2", TINYFAAS_MQTT_PROTOCOL=protocol)
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    assert json.loads(ended.stdout) == [{"a": "ä"}, 2]


def test_an_exception_of_the_function_is_told(tinyfaas: Tinyfaas, deployed: str) -> None:
    ended = tinyfaas("invoke", deployed)
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert ended.stderr.startswith("tinyfaas: function_error: TypeError: main() missing 1 required")


def test_what_was_invoked_stands_in_the_logs(tinyfaas: Tinyfaas, deployed: str) -> None:
    tinyfaas("invoke", deployed, "7")
    tinyfaas("invoke", deployed)
    both, failed = tinyfaas("logs", deployed), tinyfaas("logs", deployed, "--failed", "--json")
    assert [line.split()[1] for line in both.stdout.splitlines()] == ["success", "error"]
    assert [record["status"] for record in json.loads(failed.stdout)["logs"]] == ["error"]


@pytest.mark.parametrize("command", ["list", "status", "info"])
def test_what_is_shown_to_people_is_there_for_programs_too(tinyfaas: Tinyfaas, deployed: str, command: str) -> None:
    argv = [command, deployed] if command == "info" else [command]
    shown, whole = tinyfaas(*argv), tinyfaas(*argv, "--json")
    assert (shown.returncode, whole.returncode) == (Exit.OK, Exit.OK)
    answer = json.loads(whole.stdout)
    assert answer["status"] in ("ok", "running")
    assert (deployed if command != "status" else answer["node"]) in shown.stdout


def test_rollback_goes_back_as_far_as_there_is_a_version(tinyfaas: Tinyfaas, deployed: str, folder: Path) -> None:
    (folder / "func.py").write_text("def main(x): return 'second'\n", encoding="utf-8")
    assert tinyfaas("deploy", str(folder), "--wait").returncode == Exit.OK
    assert tinyfaas("rollback", deployed).stdout == f"{deployed}: version 1 is current\n"
    assert tinyfaas("rollback", deployed).stderr.startswith("tinyfaas: not_found: ")


def test_a_deleted_function_is_gone(tinyfaas: Tinyfaas, deployed: str) -> None:
    assert tinyfaas("delete", deployed).stdout == f"{deployed}: deleted\n"
    assert (
        tinyfaas("info", deployed).stderr
        == f"tinyfaas: not_found: no such function: {deployed}; tinyfaas list shows what there is\n"
    )


def test_another_nodes_requests_are_not_answered(tinyfaas: Tinyfaas, server: Server) -> None:
    ended = tinyfaas("list", "--node", "nobody", "--timeout", "0.5")
    assert ended.returncode == Exit.TIMEOUT
    where = f"127.0.0.1:{server.broker.port}"
    assert ended.stderr == f"tinyfaas: no answer within 0.5 s: is the node nobody connected to {where}?\n"
    assert tinyfaas("list", "--node", server.node).returncode == Exit.OK


def test_without_a_broker_that_is_said() -> None:
    port = free_port()
    ended = run(port, "list")
    assert ended.returncode == Exit.UNREACHABLE
    assert (
        ended.stderr
        == f"tinyfaas: no broker at 127.0.0.1:{port}: connection refused; --host and --port name another broker\n"
    )


def test_without_a_server_that_is_said_at_once(bench: Bench) -> None:
    port = bench.broker().port
    started_s = time.monotonic()
    ended = run(port, "list", "--timeout", "30")
    assert time.monotonic() - started_s < 10
    assert ended.returncode == Exit.UNREACHABLE
    expected = f"no tinyfaas server at 127.0.0.1:{port}: nobody subscribes to faas/admin/list; is the server running?"
    assert ended.stderr.startswith(f"tinyfaas: {expected}")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_refused_credentials_are_told_from_a_broker_that_is_away(bench: Bench, protocol: str) -> None:
    broker = bench.broker(more="allow_anonymous false\n")
    ended = run(broker.port, "list", TINYFAAS_MQTT_PROTOCOL=protocol)
    assert ended.returncode == Exit.UNREACHABLE
    assert "refused us: not authorized" in ended.stderr
    assert "TINYFAAS_MQTT_PASSWORD_FILE" in ended.stderr
