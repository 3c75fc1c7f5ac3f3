"""`tinyfaas doctor` as a process, with a real server and broker, or without."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bench import Bench
from tests.harness.server import Server
from tests.harness.waiting import free_port
from tinyfaas.cli.doctor.checks import CHECKS
from tinyfaas.exits import Exit

Ended = subprocess.CompletedProcess[str]


def doctor(bench: Bench, *argv: str, before: tuple[str, ...] = (), **variables: object) -> Ended:
    """Run it as the servers' account; only PATH and `variables`, without `TINYFAAS_`, are set for it."""
    grounds = bench.grounds
    environ = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "LANG": "C.UTF-8"}
    ours = {f"TINYFAAS_{name.upper()}": str(value) for name, value in variables.items()}
    return subprocess.run(
        [*before, str(grounds.installation.python), "-m", "tinyfaas", "doctor", *argv],
        env={**environ, "TINYFAAS_MQTT_HOST": "127.0.0.1", **ours}, cwd=grounds.folder, capture_output=True, text=True,
        check=False, timeout=120.0, **grounds.account.popen(),
    )  # fmt: skip


def found(ended: Ended) -> dict[str, dict[str, str]]:
    """The checks of a document by their names; the exit status must be that of the worst."""
    document: dict[str, Any] = json.loads(ended.stdout)
    checks = {check["name"]: check for check in document["checks"]}
    assert list(checks) == [check.name for check in CHECKS]
    fails = any(check["state"] == "fail" for check in checks.values())
    assert (document["state"] == "fail") == fails
    assert ended.returncode == (Exit.FAILED if fails else Exit.OK)
    assert ended.stderr == ""
    return checks


def settings_of(server: Server) -> dict[str, Any]:
    return {
        "mqtt_port": server.broker.port,
        "node": server.node,
        "data_dir": server.data_dir,
        "functions_dir": server.functions_dir,
    }


def test_beside_a_running_server_nothing_fails(bench: Bench, server: Server) -> None:
    ended = doctor(bench, **settings_of(server))
    assert ended.returncode == Exit.OK, ended.stdout
    assert ended.stderr == ""
    assert "\x1b" not in ended.stdout
    lines = [line for line in ended.stdout.splitlines() if line[:4].strip() in ("ok", "skip", "warn")]
    assert len(lines) == len(CHECKS)
    assert f"127.0.0.1:{server.broker.port} lets us in, MQTT 5" in ended.stdout
    assert ended.stdout.splitlines()[-1].endswith(", 0 fail")


def test_a_program_gets_the_same_as_one_document(bench: Bench, server: Server) -> None:
    checks = found(doctor(bench, "--json", **settings_of(server)))
    assert (checks["broker"]["state"], checks["server"]["state"]) == ("ok", "ok")
    assert checks["server"]["found"].startswith(f"{server.node}, version ")
    assert "sandbox: " in checks["server"]["found"]


def test_the_running_brokers_own_configuration_is_read(bench: Bench) -> None:
    broker = bench.broker(more="autosave_interval 60\n")
    checks = found(doctor(bench, "--json", "--port", str(broker.port)))
    assert checks["broker limits"]["state"] == "ok", checks["broker limits"]
    assert "max_queued_messages 100000, max_inflight_messages 0" in checks["broker limits"]["found"]
    assert "no tinyfaas server" in checks["server"]["found"]


def test_a_brokers_configuration_that_is_hidden_is_not_guessed(bench: Bench) -> None:
    broker = bench.broker()
    broker.log_file.with_name("mosquitto.conf").chmod(0)
    told = found(doctor(bench, "--json", mqtt_port=broker.port))["broker limits"]
    assert told["state"] == "skip"
    assert "not readable as this user: " in told["found"]
    assert told["fix"] == "sudo tinyfaas doctor"


def test_without_a_broker_it_fails_and_says_so(bench: Bench) -> None:
    port = free_port()
    ended = doctor(bench, mqtt_port=port)
    assert ended.returncode == Exit.FAILED
    assert f"no broker at 127.0.0.1:{port}: connection refused\n" in ended.stdout
    assert "fix: sudo apt install mosquitto && sudo systemctl enable --now mosquitto\n" in ended.stdout


def test_a_broker_that_says_nothing_does_not_hang_it(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started_s = time.monotonic()
        checks = found(doctor(bench, "--json", mqtt_port=silent.getsockname()[1]))
    assert checks["broker"]["state"] == "fail"
    assert time.monotonic() - started_s < 30.0  # two checks of 5 s, on a machine under load


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_refused_credentials_are_told_and_the_password_is_not(bench: Bench, protocol: str) -> None:
    broker = bench.broker(more="allow_anonymous false\n")
    ended = doctor(
        bench, mqtt_port=broker.port, mqtt_protocol=protocol, mqtt_username="pi", mqtt_password="raspberry-secret"
    )
    assert ended.returncode == Exit.FAILED
    assert "refused us: not authorized" in ended.stdout
    assert "fix: set mqtt.username and mqtt.password_file" in ended.stdout
    assert "raspberry-secret" not in ended.stdout + ended.stderr


def test_a_broker_that_takes_no_upload_is_told(bench: Bench) -> None:
    broker = bench.broker(more="max_packet_size 100000\n")
    told = found(doctor(bench, "--json", mqtt_port=broker.port))["broker"]
    assert told["state"] == "warn"
    assert "MaximumPacketSize 100000" in told["found"]
    assert "max_packet_size" in told["fix"]


def test_settings_that_can_not_be_used_are_the_first_to_be_told(bench: Bench) -> None:
    checks = found(doctor(bench, "--json", mqtt_port="mqtt"))
    assert checks["config"]["state"] == "fail"
    assert "TINYFAAS_MQTT_PORT: 'mqtt' is not an integer" in checks["config"]["found"]
    assert checks["broker"]["state"] == "skip"


def test_settings_that_are_hidden_from_who_asks_are_skipped(bench: Bench) -> None:
    file = bench.grounds.new_folder("config") / "tinyfaas.toml"
    file.write_text('[mqtt]\npassword = "raspberry-secret"\n', encoding="utf-8")
    file.chmod(0)
    ended = doctor(bench, "--json", "--config", str(file))
    assert found(ended)["config"]["state"] == "skip"
    assert found(ended)["broker"]["fix"] == "sudo tinyfaas doctor"


def test_bubblewrap_is_really_tried(bench: Bench) -> None:
    """In a user namespace that allows no further ones, as on a device where they are switched off."""
    if shutil.which("bwrap") is None or shutil.which("unshare") is None:
        pytest.skip("needs bubblewrap and unshare")
    close = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    before = ("unshare", "--user", "--map-root-user", "--", "sh", "-c", close, "sh")
    checks = found(doctor(bench, "--json", before=before, sandbox_mode="required"))
    assert checks["bubblewrap"]["state"] == "fail"
    assert checks["bubblewrap"]["found"].startswith("does not work")
    assert checks["user namespaces"]["state"] == "fail"
    assert "user.max_user_namespaces = 0" in checks["user namespaces"]["found"]


def test_without_bubblewrap_how_to_install_it_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    told = found(doctor(bench, "--json"))["bubblewrap"]
    assert (told["state"], told["fix"]) == ("warn", "sudo apt install bubblewrap")


def test_root_tries_the_sandbox_as_another_account(bench: Bench, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("bwrap") is None:
        pytest.skip("needs root and bubblewrap")
    python = str(bench.grounds.installation.python)
    ended = subprocess.run(
        [python, "-m", "tinyfaas", "doctor", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "works as nobody" in found(ended)["bubblewrap"]["found"]
