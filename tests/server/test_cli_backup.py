"""Backup from a running server, and restore onto another: functions, settings, and what they had stored."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from tests.harness.bench import Bench
from tests.harness.client import Client
from tests.harness.commandline import Ended, run
from tests.harness.server import Server
from tinyfaas.exits import Exit

COUNTER = """
    import os
    from pathlib import Path
    COUNT = Path("deep/count")
    def main():
        COUNT.parent.mkdir(exist_ok=True)
        COUNT.write_text(str(int(COUNT.read_text()) + 1 if COUNT.exists() else 1))
        if not os.path.lexists("link"): os.symlink("/etc/passwd", "link")
        return int(COUNT.read_text())
"""
SECRET = "a-secret-that-nobody-backs-up"


def on_its_device(server: Server, *argv: str) -> Ended:
    """Run a command on the server's device: with its folders."""
    here = {"TINYFAAS_DATA_DIR": str(server.data_dir), "TINYFAAS_FUNCTIONS_DIR": str(server.functions_dir)}
    return run(server.broker.port, *argv, **here)


@pytest.fixture
def old(bench: Bench) -> Server:
    """A server with two functions, one of them with state and a secret."""
    secrets = bench.grounds.new_folder("secrets")
    (secrets / "KEY").write_text(SECRET, encoding="utf-8")
    server = bench.server(bench.broker(), {"sandbox_secrets_dir": secrets}).start()
    client = bench.client(server.broker)
    client.deploy("counter", COUNTER, config={"concurrency": 1, "secrets": ["KEY"]})
    client.deploy("plain", "def main(): return 'first'")
    client.deploy("plain", "def main(): return 'second'")
    assert [client.call("counter"), client.call("counter")] == [1, 2]
    return server


def test_functions_settings_and_state_come_to_another_device(bench: Bench, old: Server, tmp_path: Path) -> None:
    file = tmp_path / "pi.tar.gz"
    made = on_its_device(old, "backup", str(file), "--json")
    assert made.returncode == Exit.OK, made.stderr
    assert sorted(json.loads(made.stdout)["functions"]) == ["counter", "plain"]
    assert json.loads(made.stdout)["left_out"] == 1  # the link
    assert file.stat().st_mode & 0o077 == 0
    with tarfile.open(file) as tar:
        assert all(member.isreg() or member.isdir() for member in tar)
        contents = b"".join(read.read() for member in tar if (read := tar.extractfile(member)))
    assert SECRET.encode() not in contents

    secrets = bench.grounds.new_folder("secrets")
    (secrets / "KEY").write_text("another", encoding="utf-8")
    new = bench.server(bench.broker(), {"sandbox_secrets_dir": secrets}).start()
    restored = on_its_device(new, "restore", str(file), "--state")
    assert restored.returncode == Exit.OK, restored.stderr
    assert "counter: version 1 is ready" in restored.stdout
    client = bench.client(new.broker)
    assert (client.call("counter"), client.call("plain")) == (3, "second")
    info = client.request("faas/admin/info/counter")
    assert (info["config"]["concurrency"], info["config"]["secrets"]) == (1, ["KEY"])
    again = on_its_device(new, "restore", str(file), "--state")
    assert again.returncode == Exit.OK, again.stderr
    assert "counter: has stored something here already, which stays as it is" in again.stderr
    assert again.stdout.count("nothing has changed") == 2
    assert client.call("counter") == 4
    owner = new.functions_dir.stat()
    for path in (new.functions_dir / "counter").rglob("*"):
        assert path.lstat().st_uid == owner.st_uid, path


def test_one_function_is_restored_by_upload_alone(bench: Bench, old: Server, tmp_path: Path) -> None:
    file = tmp_path / "pi.tar.gz"
    assert on_its_device(old, "backup", str(file), "--without-state").returncode == Exit.OK
    with tarfile.open(file) as tar:
        assert not [name for name in tar.getnames() if "/state" in name]
    new = bench.server(bench.broker()).start()
    unknown = run(new.broker.port, "restore", str(file), "nobody")
    assert unknown.stderr == f"tinyfaas: {file}: has no nobody; there are: counter, plain\n"
    ended = run(new.broker.port, "restore", str(file), "plain", "--json")
    assert ended.returncode == Exit.OK, ended.stderr
    assert [each["function"] for each in json.loads(ended.stdout)] == ["plain"]
    with Client(new.broker.port) as client:
        assert client.request("faas/admin/list")["functions"] == ["plain"]
    refused = run(new.broker.port, "restore", str(file), "counter")
    assert refused.returncode == Exit.FAILED
    assert refused.stderr.endswith("tinyfaas: bad_request: secrets: this device has no secret KEY\n")


def test_code_that_was_changed_on_the_disk_is_not_backed_up(old: Server, tmp_path: Path) -> None:
    code = old.functions_dir / "plain" / "versions" / "2" / "func.py"
    code.unlink()
    code.symlink_to("/etc/passwd")
    ended = on_its_device(old, "backup", str(tmp_path / "pi.tar.gz"))
    assert ended.returncode == Exit.FAILED
    assert "is not what was uploaded as version 2: its digest differs" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_where_no_server_has_been_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    ended = run(1, "backup", str(tmp_path / "pi.tar.gz"), TINYFAAS_DATA_DIR=str(tmp_path / "nowhere"))
    assert ended.returncode == Exit.FAILED
    assert "no server has been on this device" in ended.stderr


def test_state_that_would_leave_its_folder_is_refused(bench: Bench, old: Server, tmp_path: Path) -> None:
    file, hostile = tmp_path / "pi.tar.gz", tmp_path / "hostile.tar.gz"
    assert on_its_device(old, "backup", str(file)).returncode == Exit.OK
    new = bench.server(bench.broker()).start()
    for name, kind in (("../../../../evil", tarfile.REGTYPE), ("link", tarfile.SYMTYPE), ("fifo", tarfile.FIFOTYPE)):
        with tarfile.open(file) as given, tarfile.open(hostile, "w:gz") as tar:
            for member in given:
                tar.addfile(member, given.extractfile(member))
            evil = tarfile.TarInfo(f"functions/counter/state/{name}")
            evil.type, evil.linkname = kind, "/etc"
            tar.addfile(evil, io.BytesIO(b""))
        ended = on_its_device(new, "restore", str(hostile), "counter", "--state")
        assert ended.returncode == Exit.FAILED
        assert "tinyfaas backup" in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert list(new.functions_dir.iterdir()) == []
        assert not os.path.lexists(new.home / "evil")
