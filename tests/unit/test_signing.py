"""A signature that can't be checked refuses the upload, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness.waiting import eventually
from tinyfaas import signing
from tinyfaas.config import Uploads
from tinyfaas.errors import Forbidden
from tinyfaas.model import Limits
from tinyfaas.protocol import Signed
from tinyfaas.registry import Record, Registry
from tinyfaas.signing import Signers

SIGNED = Signed(b"-----BEGIN SSH SIGNATURE-----", b"x" * 1_000_000, "2026-01-01T00:00:00.000000Z")


@pytest.fixture
def signers(tmp_path: Path) -> Signers:
    """Signers of whom nobody is known."""
    allowed = tmp_path / "allowed_signers"
    allowed.touch()
    registry = Registry(tmp_path / "functions.json", tmp_path / "functions", Limits())
    return Signers(registry, Uploads(allowed_signers=str(allowed)), tmp_path / "signed.json")


def test_a_check_that_takes_too_long_is_ended_with_all_it_started(
    signers: Signers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ssh-keygen"
    program.write_text(f"#!/bin/sh\n/usr/bin/sleep 600 &\necho $$ $! >{tmp_path}/pids\nwait\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(signing, "CHECK_S", 0.5)
    with pytest.raises(Forbidden, match=r"could not be checked within 0\.5 s"):
        signers.verify("f", SIGNED)
    pids = (tmp_path / "pids").read_text(encoding="ascii").split()
    assert len(pids) == 2
    for pid in pids:
        eventually(lambda: not is_running(pid), f"process {pid} to be gone")  # noqa: B023


def is_running(pid: str) -> bool:
    """Whether there is such a process, other than as a zombie that init has still to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_upload_that_was_let_in_without_its_signature_is_stopped_where_it_would_be_built(signers: Signers) -> None:
    with pytest.raises(Forbidden, match="must be signed"):
        signers.verify("f", None)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"deleted": 5}', b'{"deleted": "soon"}', b"\xff"])
def test_a_memory_of_deleted_functions_that_is_spoilt_does_not_keep_the_server_from_starting(
    signers: Signers, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "signed.json").write_bytes(content)
    signers.load()
    signers.remember_deleted(Record(1, 2, (), SIGNED.at))
    assert json.loads((tmp_path / "signed.json").read_bytes()) == {"deleted": SIGNED.at}


def test_of_deleted_functions_the_latest_time_is_remembered(signers: Signers, tmp_path: Path) -> None:
    for second in (1, 3, 2):
        signers.remember_deleted(Record(1, 2, (), f"2026-01-01T00:00:0{second}.000000Z"))
    signers.remember_deleted(Record(1, 2, ()))
    assert json.loads((tmp_path / "signed.json").read_bytes()) == {"deleted": "2026-01-01T00:00:03.000000Z"}
