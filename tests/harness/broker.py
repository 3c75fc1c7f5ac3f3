"""A real mosquitto on a port of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from tests.harness.waiting import PATIENCE_S, eventually, free_port, listens

_CONFIGURATION = """\
listener {port} 127.0.0.1
{access}
persistence true
persistence_location {folder}/
max_inflight_messages 0
max_queued_messages 100000
set_tcp_nodelay true
user {user}
log_dest file {folder}/mosquitto.log
log_type {log_type}
connection_messages true
"""

ACCOUNT = "tinyfaas"


class Broker:
    """Configured like scripts/broker; it can be stopped, killed and started again on the same port and store.

    A `talkative` one writes every packet into its log.
    """

    v5 = True
    password = ""

    def __init__(self, folder: Path, *, talkative: bool = False, more: str = "", password: str = "") -> None:
        """With a `password`, the account `ACCOUNT` must say it; without one, everybody may come."""
        self.port = free_port()
        self.password = password
        self.password_file = folder / "passwords"
        self.log_file = folder / "mosquitto.log"
        self._configuration = folder / "mosquitto.conf"
        user = pwd.getpwuid(os.geteuid()).pw_name
        if password:
            command = [_program("mosquitto_passwd"), "-b", "-c", str(self.password_file), ACCOUNT, password]
            subprocess.run(command, check=True, capture_output=True)
            self.password_file.chmod(0o600)
        access = f"password_file {self.password_file}" if password else "allow_anonymous true"
        text = _CONFIGURATION.format(
            port=self.port, access=access, folder=folder, user=user, log_type="all" if talkative else "notice"
        )
        self._configuration.write_text(text + more, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def login(self) -> tuple[str, str] | None:
        """Account and password, for who needs them."""
        return (ACCOUNT, self.password) if self.password else None

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Broker:
        """Start it, and wait until it listens."""
        process = subprocess.Popen(
            [_program("mosquitto"), "-c", str(self._configuration)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._process = process
        eventually(lambda: process.poll() is not None or listens(self.port), "mosquitto to listen")
        assert process.poll() is None, f"mosquitto ended:\n{self.log()}"
        return self

    def stop(self) -> None:
        """Stop it in order: it saves what it holds."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

    def kill(self) -> None:
        """Pull its plug."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
            self._process = None

    def log(self) -> str:
        """What it has written into its log."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""


def _program(name: str) -> str:
    program = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    assert program is not None, f"{name} is not installed: scripts/setup does that"
    return program
