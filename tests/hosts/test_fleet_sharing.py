"""A group on booted hosts, under load: one node loses its power, one its network, and both take part again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.harness.group import LEAST_SHARE, even_shares
from tests.harness.lapse import lapse
from tests.harness.load import COUNTING, Load
from tests.harness.tally import tally, wait_answered
from tests.harness.waiting import eventually
from tests.hosts.appliance import Appliance
from tests.hosts.control import Control
from tests.hosts.grown import AT_ONCE
from tests.hosts.host import Host

PER_SECOND = 100
AWAY_S = 20.0  # longer than it takes the broker to notice
MANY = 100
SETTINGS = {"node": {"group": "kitchen"}, "mqtt": {"keepalive_s": 5, "connect_timeout_s": 2}}


@pytest.fixture(scope="module")
def broker(grown: Control) -> Iterator[Host]:
    """The host whose broker all share, itself a node of the group."""
    broker = grown.hosts[-1]
    with contextlib.ExitStack() as stack:
        for host in grown.hosts:
            of_another = {} if host is broker else {"tinyfaas_broker": broker.name}
            stack.enter_context(grown.given(host, tinyfaas_config=SETTINGS, **of_another))
        grown.play("site.yml", *AT_ONCE)
        yield broker
    grown.play("site.yml", *AT_ONCE)


@pytest.mark.slow
def test_the_playbook_makes_a_group_that_finds_a_broker_again_soon(grown: Control, broker: Host) -> None:
    for host in grown.hosts:
        assert "reconnect_max_s = 2\n" in host.run("cat", "/etc/tinyfaas/tinyfaas.toml").stdout
    assert grown.play("site.yml", *AT_ONCE).changed == {}
    table = grown.play("check.yml").output.splitlines()
    assert all(any(line.split()[1:3] == [host.name, "active"] for line in table) for host in grown.hosts)


@pytest.mark.slow
def test_without_power_or_network_nodes_lose_no_request_of_their_group(grown: Control, broker: Host) -> None:
    dark, cut_off = (host for host in grown.hosts if host is not broker)
    nodes = [host.name for host in grown.hosts]
    for node in nodes:
        Appliance(broker).deploy("shared", COUNTING, node=node)
    with Appliance(broker).client(lasting=True) as client:
        load = Load(client, "shared", PER_SECOND)
        load.start()
        before = even_shares(load, client, nodes)
        dark.crash()
        cut_off.cable.pull()
        lapse(AWAY_S)
        meanwhile = load.sent - load.answered()
        dark.start()
        cut_off.cable.plug()
        dark.wait_up()
        eventually(lambda: load.sent - load.answered() < MANY, "the answers to catch up", timeout_s=120.0)
        after = even_shares(load, client, nodes)
        load.stop()
        wait_answered(load)
        counts = tally("group on hosts: one without power, one without network", load)
        counts.say(unanswered_meanwhile=meanwhile, before=before, after=after)
    assert counts.lost == set()
    assert meanwhile > MANY
    assert min(before.values()) > LEAST_SHARE
    assert min(after.values()) > LEAST_SHARE
