"""Nothing is closed and nothing moves: a process that holds still, a connection that has gone silent."""

from __future__ import annotations

import pytest

from tests.harness.bench import Bench
from tests.harness.client import new_label
from tests.harness.frozen import frozen
from tests.harness.lapse import lapse
from tests.harness.load import COUNTING, Load, runs_of
from tests.harness.proxy import Proxy
from tests.harness.tally import tally, wait_answered
from tests.harness.waiting import eventually

FROZEN_S = 60.0  # longer than broker and server wait for a sign of life
ANSWERS = ("faas/response/invoke/#",)


@pytest.mark.timeout(300)
def test_a_server_or_a_broker_that_holds_still_for_a_minute_costs_no_request(bench: Bench) -> None:
    loads, servers = [], []
    pids = []
    for what in ("server", "broker"):
        broker = bench.broker()
        server = bench.server(broker).start()
        name = new_label("function")
        bench.client(broker).deploy(name, COUNTING)
        load = Load(bench.client(broker, topics=ANSWERS, lasting=True), name, per_second=50)
        load.start()
        eventually(lambda load=load: load.answered() > 20, "the load to flow")  # type: ignore[misc]
        loads.append((what, load, name))
        servers.append(server)
        pids.append(server.pid if what == "server" else broker.pid)
    with frozen(*pids):
        lapse(FROZEN_S)
    for (what, load, name), server in zip(loads, servers, strict=True):
        before = load.answered()
        eventually(lambda load=load, before=before: load.answered() > before, "the load to flow again")  # type: ignore[misc]
        load.stop()
        wait_answered(load)
        counts = tally(f"{what} frozen", load, runs_of(server, name))
        counts.say(reconnects=len(server.log.records(event="disconnected")))
        assert counts.lost == set()
        if what == "server":
            assert counts.run_twice == set()


@pytest.mark.timeout(180)
def test_a_connection_gone_silent_is_noticed_and_costs_no_request(bench: Bench, function: str) -> None:
    broker = bench.broker()
    with Proxy(broker.port) as proxy:
        settings = {"mqtt_port": proxy.port, "mqtt_keepalive_s": 5, "mqtt_connect_timeout_s": 2}
        server = bench.server(broker, settings).start()
        bench.client(broker).deploy(function, COUNTING)
        load = Load(bench.client(broker, topics=ANSWERS, lasting=True), function)
        load.start()
        eventually(lambda: load.answered() > 100, "the load to flow")
        silenced = proxy.silence()
        for connection in ("", "-admin"):
            server.log.wait(event="disconnected", client_id=f"tinyfaas-{server.node}{connection}")
        before = load.answered()
        eventually(lambda: load.answered() > before, "the load to flow again")
        load.stop()
        wait_answered(load)
        counts = tally("connection silent", load, runs_of(server, function))
        counts.say(silenced=silenced)
        assert counts.lost == set()
        assert counts.run_twice == set()
        server.stop()
