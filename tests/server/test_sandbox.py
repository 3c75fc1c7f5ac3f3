"""What a function sees and reaches from inside its sandbox: its own, and nobody else's."""

from __future__ import annotations

import ast
import dataclasses
import os
import platform
import stat
from pathlib import Path

import pytest

from tests.harness.bench import Bench
from tests.harness.client import Client
from tests.harness.server import Server

EXPRESSION = """
    import glob, os, signal, socket, subprocess
    def main(expression):
        try:
            return repr(eval(expression))
        except BaseException as error:
            return type(error).__name__
"""


@pytest.fixture
def prisoner(client: Client, function: str) -> str:
    """A function that tries what it is told."""
    client.deploy(function, EXPRESSION)
    return function


def test_others_files_are_out_of_sight(client: Client, server: Server, prisoner: str, echo: str) -> None:
    for path in (server.data_dir, server.data_dir / "functions.json", server.functions_dir / echo, "/etc/mosquitto",
                 "/etc/tinyfaas", "/etc/shadow", "/root", "/home", "/var/lib"):  # fmt: skip
        assert client.call(prisoner, f"os.path.exists({str(path)!r})") == "False", path
    assert client.call(prisoner, f"os.listdir({str(server.functions_dir)!r})") == repr([prisoner])


def test_only_its_own_folder_and_tmp_can_be_written(client: Client, server: Server, prisoner: str) -> None:
    home = server.functions_dir / prisoner
    for path in ("/x", "/usr/x", "/etc/x", "/dev/x", "/sys/x", home / "versions" / "1" / "func.py"):
        assert client.call(prisoner, f"open({str(path)!r}, 'w')") in (
            "OSError", "PermissionError", "FileNotFoundError"
        ), path  # fmt: skip
    client.call(prisoner, f"open({str(home / 'x')!r}, 'w')")  # a folder of the sandbox's own stands there
    assert not (home / "x").exists()
    assert client.call(prisoner, "open('/tmp/x', 'w').write('x')") == "1"
    assert client.call(prisoner, "open(os.environ['TINYFAAS_STATE_DIR'] + '/x', 'w').write('x')") == "1"
    assert (home / "state" / "x").read_text() == "x"


def test_other_processes_are_out_of_reach(client: Client, server: Server, prisoner: str) -> None:
    others = client.call(prisoner, "[p for p in os.listdir('/proc') if p.isdigit()]")
    assert len(eval(others)) <= 3
    assert client.call(prisoner, f"os.kill({server.pid}, 9)") == "ProcessLookupError"
    assert client.call(prisoner, f"open('/proc/{server.pid}/environ').read()") == "FileNotFoundError"
    assert client.call(prisoner, "os.kill(-1, 0)") in ("None", "ProcessLookupError", "PermissionError")


def test_a_link_out_of_its_folder_leads_nowhere(client: Client, server: Server, prisoner: str) -> None:
    state = server.functions_dir / prisoner / "state"
    target = str(server.data_dir / "functions.json")
    assert client.call(prisoner, f"os.symlink({target!r}, {str(state / 'link')!r})") == "None"
    assert client.call(prisoner, f"open({str(state / 'link')!r}).read()") == "FileNotFoundError"


def test_no_privileges_no_new_ones_and_the_first_to_go(client: Client, prisoner: str) -> None:
    told = ast.literal_eval(client.call(prisoner, "open('/proc/self/status').read()"))
    status = dict(line.split(":\t", 1) for line in told.splitlines())
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert client.call(prisoner, "open('/proc/self/oom_score_adj').read()") == repr("900\n")
    assert client.call(prisoner, "len(open('/proc/self/maps').read()) > 0") == "True"  # its own, as any process


REFUSED = {
    "ptrace": "ptrace(0, 0, 0, 0)",
    "mount": "mount(b'none', b'/tmp', b'tmpfs', 0, 0)",
    "unshare": "unshare(0x10000000)",
    "keyctl": "syscall(250, 0, 0)",
    "bpf": "syscall(321, 0, 0, 0)",
    "shmget": "shmget(0, 4096, 0o1600)",
}


@pytest.mark.parametrize("call", REFUSED)
def test_system_calls_that_no_function_needs_are_refused(client: Client, prisoner: str, call: str) -> None:
    libc = "(libc := __import__('ctypes').CDLL(None, use_errno=True))"
    if "syscall" in REFUSED[call] and platform.machine() != "x86_64":
        pytest.skip("the numbers are those of x86_64")
    assert client.call(prisoner, f"{libc}.{REFUSED[call]}, __import__('ctypes').get_errno()") == "(-1, 1)"


def test_status_says_whether_system_calls_are_refused(client: Client, bench: Bench, function: str) -> None:
    assert client.request("faas/admin/status")["limits"]["seccomp"] == "on"
    broker = bench.broker()
    bench.server(broker, {"sandbox_seccomp": "false"}).start()
    other = bench.client(broker)
    assert other.request("faas/admin/status")["limits"]["seccomp"] == "off"
    other.deploy(function, EXPRESSION)
    assert "Seccomp:\\t0" in other.call(function, "open('/proc/self/status').read()")


def test_without_network_there_is_none(client: Client, server: Server, function: str) -> None:
    connect = f"socket.create_connection(('127.0.0.1', {server.broker.port}), 2)"
    client.deploy(function, EXPRESSION, config={"network": False})
    assert client.call(function, connect) in ("ConnectionRefusedError", "OSError")
    client.deploy(function, EXPRESSION)
    assert "socket.socket" in client.call(function, connect)


def test_a_device_is_seen_by_the_function_that_lists_it_alone(client: Client, prisoner: str) -> None:
    see = "os.path.exists('/dev/ptmx'), os.path.exists('/dev/kmsg')"
    assert client.call(prisoner, see) == "(True, False)"
    client.deploy(prisoner, EXPRESSION, config={"devices": ["/dev/kmsg"]})
    assert client.call(prisoner, see) == "(True, True)"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_of_a_group_that_the_server_is_in_can_be_used(
    bench: Bench, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, group = Path(f"/dev/{function}"), 64_999
    try:
        os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(1, 3))  # what /dev/null is
    except OSError as error:
        pytest.skip(f"no devices can be made here: {error}")
    try:
        os.chown(node, 0, group)
        node.chmod(0o660)
        opened = f"open({str(node)!r}, 'w').write('x')"
        for groups, outcome in (((), "PermissionError"), ((group,), "1")):
            monkeypatch.setattr(bench.grounds, "account", dataclasses.replace(bench.grounds.account, groups=groups))
            broker = bench.broker()
            bench.server(broker, {"sandbox_mode": "required"}).start()
            client = bench.client(broker)
            client.deploy(function, EXPRESSION, config={"devices": [str(node)]})
            assert client.call(function, opened) == outcome
    finally:
        node.unlink()


@pytest.mark.parametrize(
    ("device", "said"), [("i2c", "has no i2c"), ("/dev/../etc", "none of"), ("toaster", "none of camera, gpio")]
)
def test_a_device_that_is_not_there_fails_the_upload(client: Client, function: str, device: str, said: str) -> None:
    answer = client.upload(function, EXPRESSION, config={"devices": [device]})
    assert answer["code"] == "bad_request", answer
    assert said in answer["error"]


def test_where_a_sandbox_is_required_and_missing_nothing_runs(
    bench: Bench, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = bench.broker()
    monkeypatch.setenv("PATH", "/nowhere")
    bench.server(broker, {"sandbox_mode": "required"}).start()
    client = bench.client(broker)
    answer = client.upload(function, EXPRESSION)
    assert answer["code"] == "unavailable", answer
    assert "sandbox" in answer["error"]
    assert client.request("faas/admin/status")["limits"]["sandbox"] == "none"
