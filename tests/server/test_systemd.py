"""What systemd hears of the real server: that it is ready, how it is, and that it lives, as long as that is true."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import gated
from tests.harness.bench import Bench
from tests.harness.datagrams import NotifySocket
from tests.harness.server import Server
from tests.harness.waiting import eventually
from tinyfaas.exits import Exit

ECHO = "def main(*args): return list(args)"
WATCHDOG_S = 4.0


@pytest.fixture
def systemd(bench: Bench) -> Iterator[NotifySocket]:
    """Where systemd listens."""
    listening = NotifySocket(bench.grounds.new_folder("systemd") / "notify")
    yield listening
    listening.close()


def serving(bench: Bench, systemd: NotifySocket, **settings: object) -> Server:
    """A server that systemd has started."""
    server = bench.server(bench.broker(), settings)
    server.environ = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": f"{WATCHDOG_S * 1e6:.0f}"}
    server.environ["TINYFAAS_DEBUG_FREEZE"] = str(server.home / "freeze")
    return server


def feeds(systemd: NotifySocket, within_s: float) -> int:
    """How often the watchdog is fed in a time."""
    mark = systemd.mark()
    time.sleep(within_s)  # what is waited for is that nothing comes
    return systemd.lines(mark).count("WATCHDOG=1")


def hungry(systemd: NotifySocket) -> bool:
    """Whether the watchdog gets nothing for a period, in which systemd would bite."""
    return feeds(systemd, WATCHDOG_S) == 0


# --- ready, status, stopping -----------------------------------------------------------------------------------------


def test_it_is_ready_once_it_has_loaded_and_connected(bench: Bench, systemd: NotifySocket) -> None:
    server = serving(bench, systemd).start()
    systemd.wait("READY=1")
    lines = systemd.lines()
    before, after = lines[: lines.index("READY=1")], lines[lines.index("READY=1") + 1 :]
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in before)
    assert "WATCHDOG=1" not in before
    assert after[0] == f"STATUS=connected to 127.0.0.1:{server.broker.port}, 0 functions, 0 running, 0 failing"


def test_a_broker_that_is_away_makes_no_start_fail_or_take_long(bench: Bench, systemd: NotifySocket) -> None:
    server = serving(bench, systemd)
    server.broker.stop()
    started_s = time.monotonic()
    server.spawn()
    systemd.wait("READY=1")
    assert time.monotonic() - started_s < 10.0
    status = systemd.wait("STATUS=waiting for")
    assert status == f"STATUS=waiting for 127.0.0.1:{server.broker.port}, 0 functions, 0 running, 0 failing"
    mark = systemd.mark()
    server.broker.start()
    systemd.wait("STATUS=connected to", mark)


def test_the_status_tells_of_functions_running_and_failing(bench: Bench, systemd: NotifySocket) -> None:
    server = serving(bench, systemd).start()
    client = bench.client(server.broker)
    gate = gated.deploy(server, client, "slow")
    client.publish("faas/invoke/slow", {"request_id": "waits"})
    gate.wait_waiting()
    where = f"STATUS=connected to 127.0.0.1:{server.broker.port}, 1 functions"
    systemd.wait(f"{where}, 1 running, 0 failing")
    gate.open()
    assert client.answer_to("waits").body["status"] == "success"
    mark = systemd.mark()
    systemd.wait(f"{where}, 0 running, 0 failing", max(0, mark - 20))


def test_the_status_changes_once_a_second_at_most(bench: Bench, systemd: NotifySocket) -> None:
    server = serving(bench, systemd).start()
    client = bench.client(server.broker)
    client.deploy("echo", ECHO)
    mark, started_s = systemd.mark(), time.monotonic()
    for number in range(300):
        client.call("echo", number)
    took_s = time.monotonic() - started_s
    said = [line for line in systemd.lines(mark) if line.startswith("STATUS=")]
    assert len(said) <= took_s + 2


def test_a_stop_is_announced_with_the_time_it_may_take(bench: Bench, systemd: NotifySocket) -> None:
    server = serving(bench, systemd, drain_s=100).start()
    mark = systemd.mark()
    assert server.stop() == Exit.OK
    lines = systemd.lines(mark)
    assert "STOPPING=1" in lines
    (extended,) = [line for line in lines if line.startswith("EXTEND_TIMEOUT_USEC=")]
    assert int(extended.partition("=")[2]) > 100e6
    assert "WATCHDOG=1" not in lines[lines.index("STOPPING=1") :]


# --- the watchdog ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thread", ["main", "invocations", "administration", "dispatch-1", "admin", "build-0"])
def test_the_watchdog_is_not_fed_while_a_thread_is_frozen(bench: Bench, systemd: NotifySocket, thread: str) -> None:
    server = serving(bench, systemd, workers=2).start()
    systemd.wait("WATCHDOG=1")
    (server.home / "freeze").write_text(thread)
    eventually(lambda: hungry(systemd), f"the watchdog to starve for {thread}")
    if thread != "main":
        assert server.log.wait(event="threads_stuck")["threads"] == [thread]
    (server.home / "freeze").unlink()
    systemd.wait("WATCHDOG=1", systemd.mark())  # it was that and nothing else


def test_a_server_that_is_bitten_shows_where_its_threads_hung(bench: Bench, systemd: NotifySocket) -> None:
    server = serving(bench, systemd).start()
    server.signal(signal.SIGABRT)  # as systemd does it
    assert server.wait() == -signal.SIGABRT
    assert "Current thread" in server.log.text()
    assert "in _watch" in server.log.text()


def test_a_file_from_before_the_start_freezes_nothing(bench: Bench, systemd: NotifySocket) -> None:
    server = serving(bench, systemd)
    (server.home / "freeze").write_text("main")
    server.start()  # as systemd does after it has bitten
    assert feeds(systemd, WATCHDOG_S) >= 2


def test_the_watchdog_is_not_fed_while_the_process_holds_still(bench: Bench, systemd: NotifySocket) -> None:
    server = serving(bench, systemd).start()
    server.signal(signal.SIGSTOP)
    eventually(lambda: hungry(systemd), "the watchdog to starve")
    server.signal(signal.SIGCONT)
    systemd.wait("WATCHDOG=1", systemd.mark())


def test_the_watchdog_is_fed_while_a_function_is_slow_within_its_limit(bench: Bench, systemd: NotifySocket) -> None:
    server = serving(bench, systemd, workers=2).start()
    client = bench.client(server.broker)
    gate = gated.deploy(server, client, "slow")
    client.publish("faas/invoke/slow", {"request_id": "slow"})
    gate.wait_waiting()
    assert feeds(systemd, 2 * WATCHDOG_S) >= 4
    gate.open()
    assert client.answer_to("slow").body["status"] == "success"
    assert server.log.records(event="threads_stuck") == []


def test_the_watchdog_is_fed_while_the_broker_is_away(bench: Bench, systemd: NotifySocket) -> None:
    server = serving(bench, systemd, mqtt_reconnect_max_s=30).start()
    server.broker.stop()
    server.log.wait(event="disconnected")
    assert feeds(systemd, 3 * WATCHDOG_S) >= 6
    assert server.log.records(event="threads_stuck") == []
    server.broker.start()


def test_a_watchdog_that_is_meant_for_another_process_is_not_ours(bench: Bench, systemd: NotifySocket) -> None:
    server = serving(bench, systemd)
    server.environ |= {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
    server.start()
    assert feeds(systemd, 2.0) <= 4  # not every 33 ms


# --- reload ----------------------------------------------------------------------------------------------------------


def configured(bench: Bench, systemd: NotifySocket, text: str) -> tuple[Server, Path]:
    """A running server, and its file of settings."""
    server = serving(bench, systemd)
    file = server.home / "tinyfaas.toml"
    file.write_text(text)
    server.environ["TINYFAAS_CONFIG"] = str(file)
    return server.start(), file


def test_a_reload_takes_over_what_may_change_and_names_the_rest(bench: Bench, systemd: NotifySocket) -> None:
    server, file = configured(bench, systemd, "[limits]\ntimeout_s = 20\n")
    client = bench.client(server.broker)
    client.deploy("sleepy", "import time\ndef main(s): time.sleep(s)\n")
    assert client.invoke("sleepy", 0.5)["status"] == "success"
    file.write_text('workers = 7\n[limits]\ntimeout_s = 0.2\n[log]\nlevels = ["gateway=debug"]\n')
    mark = systemd.mark()
    server.signal(signal.SIGHUP)
    said = server.log.wait(event="reloaded")
    assert said["applied"] == ["limits.timeout_s", "log.levels"]
    assert said["restart"] == ["workers"]
    systemd.wait("RELOADING=1", mark)
    systemd.wait("MONOTONIC_USEC=", mark)
    systemd.wait("READY=1", mark)
    assert client.invoke("sleepy", 0.5)["code"] == "timeout"
    assert client.request("faas/admin/info/sleepy")["config"]["timeout_s"] == 0.2
    assert client.request("faas/admin/status")["workers"]["threads"] != 7


def test_settings_that_cannot_be_used_are_refused_and_the_old_ones_stay(bench: Bench, systemd: NotifySocket) -> None:
    server, file = configured(bench, systemd, "[limits]\ntimeout_s = 20\n")
    client = bench.client(server.broker)
    client.deploy("echo", ECHO)
    mark = systemd.mark()
    for text in ("[limits]\ntimeout_s = 0\n", "[limits", '[log]\nlevels = ["x=y"]\n'):
        file.write_text(text)
        before = server.log.mark()
        server.signal(signal.SIGHUP)
        refused = server.log.wait(before, event="reload_refused")
        assert (refused["level"], str(file) in refused["error"]) == ("error", True)
    file.unlink()
    before = server.log.mark()
    server.signal(signal.SIGHUP)
    server.log.wait(before, event="reload_refused")
    assert client.request("faas/admin/info/echo")["config"]["timeout_s"] == 20
    assert client.call("echo", "still") == ["still"]
    assert systemd.lines(mark).count("READY=1") == 4  # systemd does not wait for ever


def test_calls_go_on_while_settings_are_read_again(bench: Bench, systemd: NotifySocket) -> None:
    server, file = configured(bench, systemd, "")
    client = bench.client(server.broker)
    client.deploy("echo", ECHO)
    for number in range(30):
        file.write_text(f"[limits]\ntimeout_s = {number + 1}\n")
        server.signal(signal.SIGHUP)
        assert client.call("echo", number) == [number]
    eventually(
        lambda: client.request("faas/admin/info/echo")["config"]["timeout_s"] == 30, "the last settings to be in force"
    )
    assert server.log.records(level="error") == []
