"""The watchdog is fed only while every thread shows life; a broker that is away is no reason to starve it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.waiting import free_port
from tinyfaas import config
from tinyfaas.daemon import Daemon


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket on which systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


@pytest.fixture
def daemon(tmp_path: Path, systemd: socket.socket) -> Iterator[Daemon]:
    """A server whose threads run, and whose broker is away."""
    settings = {
        "TINYFAAS_DATA_DIR": str(tmp_path / "data"),
        "TINYFAAS_FUNCTIONS_DIR": str(tmp_path / "functions"),
        "TINYFAAS_MQTT_PORT": str(free_port()),
    }
    daemon = Daemon(config.load(Path("/dev/null"), settings))
    systemd.recv(100)  # that it is starting
    daemon._watch_over.start()
    daemon._dispatcher.start()
    daemon._admin.start()
    daemon._gateway.start()
    yield daemon
    daemon._shut_down()


def test_the_watchdog_is_fed_while_all_threads_live_and_the_broker_is_away(
    daemon: Daemon, systemd: socket.socket
) -> None:
    daemon._feed_watchdog()
    assert systemd.recv(100) == b"WATCHDOG=1"


def test_the_watchdog_is_fed_while_a_call_may_yet_take_long(daemon: Daemon, systemd: socket.socket) -> None:
    idle = daemon._dispatcher._pulses["dispatch-0"]
    idle._beat_s = time.monotonic() - 1000.0
    idle.allow(10.0)
    daemon._feed_watchdog()
    assert systemd.recv(100) == b"WATCHDOG=1"


def test_the_watchdog_is_not_fed_when_a_call_is_past_the_longest_time_it_may_take(
    daemon: Daemon, systemd: socket.socket
) -> None:
    daemon._dispatcher._pulses["dispatch-0"]._beat_s = time.monotonic() - 1000.0
    daemon._feed_watchdog()
    with pytest.raises(BlockingIOError):
        systemd.recv(100)


def test_the_watchdog_is_not_fed_when_a_thread_has_died(daemon: Daemon, systemd: socket.socket) -> None:
    daemon._dispatcher._queue.close()
    for thread in daemon._dispatcher._threads:
        thread.join()
    daemon._feed_watchdog()
    with pytest.raises(BlockingIOError):
        systemd.recv(100)
