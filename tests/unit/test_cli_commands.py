"""The commands, with an exchange of the test's making in place of a broker."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tinyfaas import __main__, daemon
from tinyfaas.cli import client
from tinyfaas.cli.client import Heard, Inquiry
from tinyfaas.cli.commands import run
from tinyfaas.cli.failures import NoAnswer, Unreachable
from tinyfaas.config import Mqtt
from tinyfaas.errors import ConfigError
from tinyfaas.exits import Exit


class Server:
    """Says what a test lays out, and notes what it was asked."""

    def __init__(self) -> None:
        self.says: list[Heard | Exception] = []
        self.asked: list[Inquiry] = []
        self.settings = Mqtt()
        self.told = 0

    def answers(self, **body: Any) -> None:
        self.says.append(Heard(body, is_answer=True))

    def tells(self, **body: Any) -> None:
        self.says.append(Heard(body, is_answer=False))

    def exchange(self, settings: Mqtt, inquiry: Inquiry) -> Iterator[Heard]:
        self.settings = settings
        self.asked.append(inquiry)
        for each in self.says:
            if isinstance(each, Exception):
                raise each
            self.told += 1
            yield each

    @property
    def inquiry(self) -> Inquiry:
        assert len(self.asked) == 1
        return self.asked[0]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(client, "exchange", server.exchange)
    return server


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("TINYFAAS_PROFILE", raising=False)
    for name in ("HOST", "PORT", "PROTOCOL", "USERNAME", "PASSWORD", "BASE_TOPIC"):
        monkeypatch.delenv(f"TINYFAAS_MQTT_{name}", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "greet"
    folder.mkdir()
    (folder / "func.py").write_text("def main(): ...\n", encoding="utf-8")
    return folder


# --- asking and answering ------------------------------------------------------------------------------------------


def test_invoke_prints_the_result_as_json(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers(status="success", result={"message": "Hellö"})
    assert run(["invoke", "hello", '"Pi"', "--kwarg", "n=1", "--timeout", "5"]) == Exit.OK
    assert capsys.readouterr().out == '{"message": "Hellö"}\n'
    assert server.inquiry.topic == "faas/invoke/hello"
    assert server.inquiry.answer_topic == "faas/response/invoke/hello"
    assert server.inquiry.body == {"args": ["Pi"], "kwargs": {"n": 1}, "deadline_ms": 5000}


def test_a_result_of_none_is_printed_too(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers(status="success", result=None)
    assert run(["invoke", "hello"]) == Exit.OK
    assert capsys.readouterr().out == "null\n"


def test_an_error_answer_is_one_line_and_the_traceback(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    traceback = 'Traceback (most recent call last):\n  File "func.py", line 2, in main\nValueError: no\n'
    server.answers(status="error", code="function_error", error="ValueError: no", traceback=traceback)
    assert run(["invoke", "hello"]) == Exit.FAILED
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"tinyfaas: function_error: ValueError: no\n{traceback}"


def test_json_prints_an_error_answer_whole(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers(status="error", code="not_found", error="no such function: x")
    assert run(["info", "x", "--json"]) == Exit.FAILED
    said = capsys.readouterr()
    assert json.loads(said.out) == {"status": "error", "code": "not_found", "error": "no such function: x"}
    assert said.err == "tinyfaas: not_found: no such function: x; tinyfaas list shows what there is\n"


@pytest.mark.parametrize("command", ["list", "status"])
def test_commands_about_the_server_name_no_function(server: Server, command: str) -> None:
    server.answers(status="ok")
    assert run([command]) == Exit.OK
    assert server.inquiry.topic == f"faas/admin/{command}"
    assert server.inquiry.answer_topic == f"faas/response/admin/{command}"
    assert server.inquiry.body == {}


@pytest.mark.parametrize("command", ["info", "logs", "delete", "rollback"])
def test_commands_about_a_function_name_it_in_the_topic(server: Server, command: str) -> None:
    server.answers(status="ok")
    assert run([command, "hello"]) == Exit.OK
    assert server.inquiry.topic == f"faas/admin/{command}/hello"
    assert server.inquiry.answer_topic == f"faas/response/admin/{command}/hello"


@pytest.mark.parametrize("command", ["list", "status", "info hello", "logs hello", "delete hello", "rollback hello"])
def test_json_prints_the_whole_answer(server: Server, capsys: pytest.CaptureFixture[str], command: str) -> None:
    server.answers(status="ok", node="pi", more=[1])
    assert run([*command.split(), "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"status": "ok", "node": "pi", "more": [1]}


def test_logs_passes_on_what_is_asked_for(server: Server) -> None:
    server.answers(status="ok", logs=[])
    run(["logs", "hello", "--limit", "5", "--failed", "--since", "2026-01-01"])
    assert server.inquiry.body == {"limit": 5, "status": "error", "since": "2026-01-01"}


def test_a_node_is_named_in_the_request(server: Server) -> None:
    server.answers(status="ok")
    run(["list", "--node", "pi-01"])
    assert server.inquiry.body == {"node": "pi-01"}


# --- deploying -----------------------------------------------------------------------------------------------------


def test_deploy_uploads_what_is_in_the_folder(server: Server, folder: Path) -> None:
    (folder / "requirements.txt").write_bytes(b"six\n")
    (folder / "function.toml").write_text("timeout_s = 2.5\n[retry]\nattempts = 3\n", encoding="utf-8")
    server.answers(status="ok", function="greet", version=1)
    assert run(["deploy", "--force", str(folder), "--wait"]) == Exit.OK
    assert server.inquiry.topic == "faas/admin/upload/greet"
    assert server.inquiry.event_topic == "faas/event/upload/greet"
    assert server.inquiry.body == {
        "code_b64": base64.b64encode(b"def main(): ...\n").decode(),
        "req_b64": base64.b64encode(b"six\n").decode(),
        "config": {"timeout_s": 2.5, "retry": {"attempts": 3}},
    }


def test_only_func_py_must_be_there(server: Server, folder: Path) -> None:
    server.answers(status="ok")
    run(["deploy", "--force", str(folder), "--wait"])
    assert server.inquiry.body.keys() == {"code_b64"}


def test_the_folder_one_is_in_has_a_name_too(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    server.answers(status="ok")
    run(["deploy", ".", "--force", "--wait"])
    assert server.inquiry.topic == "faas/admin/upload/greet"


def test_a_name_may_be_given(server: Server, folder: Path) -> None:
    server.answers(status="ok")
    run(["deploy", "--force", str(folder), "--name", "other", "--wait"])
    assert server.inquiry.topic == "faas/admin/upload/other"


def test_deploy_with_wait_shows_progress_and_the_answer(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.tells(function="greet", phase="queued", elapsed_s=0.001)
    server.tells(function="greet", phase="install", elapsed_s=3.2, line="Collecting six")
    server.answers(status="ok", function="greet", version=4, seconds=5.0)
    assert run(["deploy", "--force", str(folder), "--wait"]) == Exit.OK
    said = capsys.readouterr()
    assert said.out == "greet: version 4 is ready, built in 5 s\n"
    assert said.err == "greet: queued, 1 ms\ngreet: install, 3.2 s: Collecting six\n"


def test_deploy_without_wait_returns_when_the_server_has_taken_it(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.tells(function="greet", node="pi-01", phase="queued")
    server.tells(function="greet", node="pi-01", phase="install")
    assert run(["deploy", "--force", str(folder)]) == Exit.OK
    assert server.told == 1
    assert capsys.readouterr().out.startswith("greet: taken by pi-01")


def test_deploy_without_wait_reports_a_bad_request(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers(status="error", code="bad_request", error="config.x: no such setting")
    assert run(["deploy", "--force", str(folder)]) == Exit.FAILED
    assert capsys.readouterr().err == "tinyfaas: bad_request: config.x: no such setting\n"


def test_a_failed_build_shows_what_the_installer_said(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.tells(function="greet", phase="failed")
    server.answers(status="error", code="build_failed", error="no six", detail="ERROR: one\nERROR: two")
    assert run(["deploy", "--force", str(folder), "--wait"]) == Exit.FAILED
    said = capsys.readouterr().err
    assert said == "greet: failed\ntinyfaas: build_failed: no six\nERROR: one\nERROR: two\n"


def test_a_folder_without_func_py_is_refused(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["deploy", str(tmp_path / "nowhere")]) == Exit.USAGE
    assert capsys.readouterr().err == f"tinyfaas: {tmp_path}/nowhere: has no func.py\n"
    assert server.asked == []


def test_a_folder_whose_name_is_no_functions_is_refused(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["deploy", str(tmp_path / "my function")]) == Exit.USAGE
    assert capsys.readouterr().err.endswith("; give one with --name\n")


@pytest.mark.parametrize(
    "settings", [b"timeout_s = ", b"since = 2026-01-01", b"timeout_s = inf", b"\xff", b"a = " + b"[" * 9999]
)
def test_a_function_toml_that_can_not_be_sent_is_refused(
    server: Server, folder: Path, settings: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "function.toml").write_bytes(settings)
    assert run(["deploy", "--force", str(folder)]) == Exit.USAGE
    assert capsys.readouterr().err.startswith(f"tinyfaas: {folder}/function.toml: ")


@pytest.mark.parametrize(("version", "uploads"), [(2, 0), (1, 1)])
def test_deploy_if_changed_uploads_what_the_current_version_is_not(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str], version: int, uploads: int
) -> None:
    digest = hashlib.sha256(b"def main(): ...\n\0\0{}").hexdigest()
    versions = [{"version": 1, "digest": "another"}, {"version": 2, "digest": digest}]
    server.answers(status="ok", function="greet", version=version, versions=versions)
    assert run(["deploy", str(folder), "--if-changed", "--wait"]) == Exit.OK
    topics = [inquiry.topic for inquiry in server.asked]
    assert topics == ["faas/admin/info/greet", *["faas/admin/upload/greet"] * uploads]
    assert capsys.readouterr().out.endswith(
        f"version {version} is {'ready' if uploads else 'current, nothing has changed'}\n"
    )


def test_deploy_if_changed_uploads_what_is_not_there(server: Server, folder: Path) -> None:
    server.answers(status="error", code="not_found", error="no such function: greet")
    assert run(["deploy", str(folder), "--if-changed", "--wait"]) == Exit.FAILED  # so ends the upload, too, here
    assert [inquiry.topic for inquiry in server.asked] == ["faas/admin/info/greet", "faas/admin/upload/greet"]


# --- which broker --------------------------------------------------------------------------------------------------


def test_the_broker_is_the_servers_unless_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYFAAS_MQTT_HOST", "pi")
    monkeypatch.setenv("TINYFAAS_MQTT_PORT", "1884")
    monkeypatch.setenv("TINYFAAS_MQTT_PASSWORD", "raspberry")
    server.answers(status="ok")
    run(["list", "--port", "1885"])
    assert (server.settings.host, server.settings.port, server.settings.password) == ("pi", 1885, "raspberry")


def test_a_base_topic_of_ones_own_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYFAAS_MQTT_BASE_TOPIC", "home/faas")
    server.answers(status="ok")
    run(["list"])
    assert server.inquiry.topic == "home/faas/admin/list"
    assert server.inquiry.answer_topic == "home/faas/response/admin/list"
    assert server.inquiry.error_topic == "home/faas/response/error"


def test_no_other_setting_of_the_server_matters(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYFAAS_WORKERS", "many")
    monkeypatch.setenv("TINYFAAS_NO_SUCH_SETTING", "1")
    server.answers(status="ok")
    assert run(["list"]) == Exit.OK


def test_a_bad_setting_of_the_broker_is_named(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINYFAAS_MQTT_PORT", "none")
    assert run(["list"]) == Exit.CONFIG
    assert capsys.readouterr().err == "tinyfaas: TINYFAAS_MQTT_PORT: 'none' is not an integer from 1 to 65535\n"


def test_an_attempt_to_connect_takes_no_longer_than_the_timeout(server: Server) -> None:
    server.answers(status="ok")
    run(["list", "--timeout", "2"])
    assert server.settings.connect_timeout_s == 2.0


def profiles(tmp_path: Path, text: str) -> Path:
    """The file of profiles, with this in it."""
    file = tmp_path / "config/tinyfaas/cli.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    return file


TWO = """
[default]
port = 1884
username = "admin"
password = "raspberry"

[centre]
host = "broker.example"
base_topic = "fleet/pi-01/faas"
tls = true
"""


def test_the_profile_called_default_is_used_where_nothing_else_names_a_broker(server: Server, tmp_path: Path) -> None:
    profiles(tmp_path, TWO)
    server.answers(status="ok")
    run(["list"])
    settings = server.settings
    assert (settings.host, settings.port, settings.username, settings.password) == (
        "localhost", 1884, "admin", "raspberry",
    )  # fmt: skip


@pytest.mark.parametrize("argv", [["--host", "elsewhere"], ["--port", "1885"]])
def test_another_broker_is_not_told_the_password_of_the_default_one(
    server: Server, tmp_path: Path, argv: list[str]
) -> None:
    profiles(tmp_path, TWO)
    server.answers(status="ok")
    run(["list", *argv])
    assert (server.settings.username, server.settings.password) == ("", "")


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_profile_is_chosen_by_its_name_and_overridden_by_flags(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    profiles(tmp_path, TWO)
    monkeypatch.setenv("TINYFAAS_PROFILE", "centre" if how == "variable" else "default")
    server.answers(status="ok")
    run(["list", "--port", "8883", *(["--profile", "centre"] if how == "flag" else [])])
    assert (server.settings.host, server.settings.port, server.settings.tls) == ("broker.example", 8883, True)
    assert server.inquiry.topic == "fleet/pi-01/faas/admin/list"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TWO, "no profile pi; there are: default, centre"),
        ("", "no profile pi; there are: none"),
        ("pi = 1", "pi: is a table, written [pi]"),
        ("[pi]\nport = 0", "[pi]: mqtt.port: 0 is not an integer from 1 to 65535"),
        ("[pi]\nhots = 'x'", "[pi]: mqtt.hots: no such setting; "),
        ("[pi", "Expected "),
    ],
)
def test_a_profile_that_can_not_be_used_is_named(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file = profiles(tmp_path, text)
    assert run(["list", "--profile", "pi"]) == Exit.CONFIG
    assert capsys.readouterr().err.startswith(f"tinyfaas: {file}: {said}")
    assert server.asked == []


# --- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Unreachable("no broker at pi:1883: connection refused"), 69),
        (NoAnswer("no answer within 10 s"), 75),
        (ConfigError("mqtt.tls_ca_file: can't be used"), 78),
    ],
)
def test_each_failure_is_one_line_and_a_status(
    server: Server, capsys: pytest.CaptureFixture[str], failure: Exception, status: int
) -> None:
    server.says.append(failure)
    assert run(["list"]) == status
    assert capsys.readouterr().err == f"tinyfaas: {failure}\n"


def test_ctrl_c_ends_quietly(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> Iterator[Heard]:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "exchange", interrupted)
    monkeypatch.setattr(sys, "argv", ["tinyfaas", "list"])
    assert __main__.main() == 130
    assert capsys.readouterr().err == ""


def test_serve_hands_over_its_file_and_the_servers_status(monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[Path | None] = []

    def serve(file: Path | None) -> int:
        files.append(file)
        return Exit.LOCKED

    monkeypatch.setattr(daemon, "serve", serve)
    assert run(["serve", "--config", "a.toml"]) == 73
    assert files == [Path("a.toml")]


# --- config --------------------------------------------------------------------------------------------------------


def test_config_shows_values_and_where_they_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tinyfaas.toml"
    file.write_text('[mqtt]\nhost = "pi"\n', encoding="utf-8")
    monkeypatch.setenv("TINYFAAS_MQTT_PORT", "1884")
    monkeypatch.setenv("TINYFAAS_MQTT_PASSWORD", "raspberry")
    assert run(["config", "--config", str(file), "--json"]) == Exit.OK
    shown = json.loads(capsys.readouterr().out)
    assert shown["mqtt.host"] == {"value": "pi", "from": str(file)}
    assert shown["mqtt.port"] == {"value": 1884, "from": "TINYFAAS_MQTT_PORT"}
    assert shown["mqtt.keepalive_s"] == {"value": 30, "from": "default"}
    assert shown["mqtt.password"]["from"] == "TINYFAAS_MQTT_PASSWORD"
    assert "raspberry" not in str(shown)


def test_config_is_a_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tinyfaas.toml"
    file.write_text('[mqtt]\nhost = "pi"\n', encoding="utf-8")
    assert run(["config", "--config", str(file)]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert ["mqtt.host", '"pi"', str(file)] in [line.split() for line in lines]


def test_config_tells_what_of_a_change_takes_a_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before.toml", tmp_path / "after.toml"
    before.write_text('[log]\nlevel = "debug"\n', encoding="utf-8")
    after.write_text('workers = 3\n[mqtt]\npassword = "raspberry"\n', encoding="utf-8")
    asked = ["config", "--config", str(after), "--against", str(before)]
    assert run([*asked, "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"reload": ["log.level"], "restart": ["workers", "mqtt.password"]}
    assert run(asked) == Exit.OK
    assert capsys.readouterr().out.splitlines() == ["reload: log.level", "restart: workers mqtt.password"]
    assert run(["config", "--config", str(after), "--against", str(after)]) == Exit.OK
    assert capsys.readouterr().out.splitlines() == ["reload: nothing", "restart: nothing"]


def test_config_names_a_setting_that_can_not_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tinyfaas.toml"
    file.write_text("workers = -1\n", encoding="utf-8")
    assert run(["config", "--config", str(file)]) == Exit.CONFIG
    assert capsys.readouterr().err.startswith(f"tinyfaas: {file}: workers: -1 is not")


# --- as a process --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv", [["--help"], ["top", "--help"], ["--version"], ["config", "--config", "/dev/null"], ["completion", "bash"]]
)
def test_what_needs_no_broker_loads_nothing_for_one(argv: list[str]) -> None:
    code = (
        "import sys; from tinyfaas.__main__ import main\n"
        f"sys.argv = ['tinyfaas', *{argv!r}]\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "print(sorted({'paho', 'structlog', 'psutil', 'ssl'} & sys.modules.keys()), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == "[]\n"


@pytest.mark.parametrize("argv", [["list"], ["logs", "f", "-f"], ["top", "--once"], ["deploy", "."], ["invoke", "f"]])
def test_what_speaks_to_a_broker_loads_nothing_of_the_servers(argv: list[str], folder: Path) -> None:
    code = (
        "import sys; from tinyfaas.__main__ import main\n"
        f"sys.argv = ['tinyfaas', *{argv!r}, '--port', '1']\n"
        "assert main() == 69\n"
        "print(sorted({'structlog', 'psutil', 'tinyfaas.daemon', 'tinyfaas.pool'} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert ended.stdout == "[]\n"


def test_a_reader_that_goes_away_is_no_accident() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tinyfaas", "config", "--config", "/dev/null"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(30) == Exit.READER_GONE


def test_a_full_disk_is_said_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "tinyfaas", "config", "--config", "/dev/null"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == Exit.FAILED
    assert ended.stderr == "tinyfaas: [Errno 28] No space left on device\n"
