"""Three nodes of one group under load: one is killed, one is cut off, and all are restarted one after the other."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.harness.bench import Bench
from tests.harness.group import GROUP, LEAST_SHARE, deploy, even_shares, nodes
from tests.harness.lapse import lapse
from tests.harness.load import COUNTING, Load, runs_of
from tests.harness.proxy import Proxy
from tests.harness.tally import tally, wait_answered
from tests.harness.waiting import eventually

ANSWERS = ("faas/response/invoke/#",)
AWAY_S = 10.0


@pytest.mark.timeout(300)
def test_a_killed_and_a_cut_off_node_answer_what_they_had_when_they_are_back(bench: Bench, function: str) -> None:
    broker = bench.broker()
    with Proxy(broker.port) as proxy:
        short = {"mqtt_keepalive_s": 5, "mqtt_connect_timeout_s": 2}
        steady, killed = nodes(bench, broker, 2, short)
        cut_off = bench.server(broker, {**GROUP, **short, "mqtt_port": proxy.port}).start()
        servers = [steady, killed, cut_off]
        deploy(bench.client(broker), servers, function, COUNTING)
        client = bench.client(broker, topics=ANSWERS, lasting=True)
        load = Load(client, function)
        load.start()
        before = even_shares(load, client, [server.node for server in servers])

        killed.kill()
        silenced = proxy.silence(until_healed=True)
        lapse(AWAY_S)
        meanwhile = load.sent - load.answered()
        killed.start()
        proxy.heal()
        for connection in ("", "-admin"):
            cut_off.log.wait(event="disconnected", client_id=f"tinyfaas-{cut_off.node}{connection}")
        eventually(lambda: load.sent - load.answered() < 100, "the answers to catch up", timeout_s=60.0)
        after = even_shares(load, client, [server.node for server in servers])
        load.stop()
        wait_answered(load)
        runs = sum((runs_of(server, function) for server in servers), start=Counter[int]())
        counts = tally("group: one killed, one cut off", load, runs)
        counts.say(silenced=silenced, unanswered_meanwhile=meanwhile, before=before, after=after)
        assert counts.lost == set()
        assert min(before.values()) > LEAST_SHARE
        assert min(after.values()) > LEAST_SHARE
        cut_off.stop()


@pytest.mark.timeout(300)
def test_restarted_one_after_the_other_a_group_loses_nothing_and_nothing_waits(bench: Bench, function: str) -> None:
    broker = bench.broker()
    servers = nodes(bench, broker, 3)
    deploy(bench.client(broker), servers, function, COUNTING)
    client = bench.client(broker, topics=ANSWERS, lasting=True)
    load = Load(client, function)
    load.start()
    even_shares(load, client, [server.node for server in servers])
    for server in servers:
        assert server.stop() == 0
        sent = load.sent
        eventually(lambda sent=sent: len([n for n in load.answers() if n < sent]) == sent, "all answers so far")  # type: ignore[misc]
        server.start()
    after = even_shares(load, client, [server.node for server in servers])
    load.stop()
    wait_answered(load)
    counts = tally("group: restarted in turn", load)
    counts.say(after=after)
    assert (counts.lost, counts.twice) == (set(), 0)
    assert min(after.values()) > LEAST_SHARE
