"""What top makes of the messages that it hears."""

from __future__ import annotations

from typing import Any

import pytest

from tinyfaas.cli import show, top
from tinyfaas.cli.fleet import Fleet, percentile
from tinyfaas.cli.line import Message
from tinyfaas.protocol import Topics


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(Topics("faas"))


def listed(calls: int, errors: int = 0, node: str = "pi", **more: Any) -> Message:
    details = {"function": "f", "version": 2, "state": "ready", "calls": calls, "errors": errors, "warm": 1, **more}
    return Message("faas/response/admin/list", {"node": node, "details": [details]})


def answered(took_ms: float, number: int, topic: str = "faas/response/invoke/f") -> Message:
    return Message(topic, {"node": "pi", "function": "f", "id": str(number), "duration_ms": took_ms})


def test_rates_are_what_counters_grew_by(fleet: Fleet) -> None:
    fleet.take(listed(10), 100.0)
    assert fleet.document(100.0)["functions"][0]["calls_per_s"] == 0
    fleet.take(listed(30, 5), 102.0)
    shown = fleet.document(102.0)["functions"][0]
    assert (shown["calls_per_s"], shown["errors_per_s"], shown["calls"]) == (10.0, 2.5, 30)
    fleet.take(listed(1), 104.0)  # deleted and uploaded anew
    assert fleet.document(104.0)["functions"][0]["calls_per_s"] == 0


def test_durations_are_those_of_the_last_minute_and_none_counts_twice(fleet: Fleet) -> None:
    fleet.take(listed(0), 0.0)
    fleet.take(answered(1000.0, 0), 1.0)
    for number in range(1, 101):
        fleet.take(answered(float(number), number), 100.0)
    fleet.take(answered(100.0, 100, "faas/response/error"), 100.0)
    shown = fleet.document(100.0)["functions"][0]
    assert (shown["p50_ms"], shown["p99_ms"]) == (51.0, 100.0)


def test_percentiles_of_little() -> None:
    assert percentile([], 50) is None
    assert (percentile([1.0], 50), percentile([1.0], 99), percentile([1.0, 2.0], 99)) == (1.0, 1.0, 2.0)


def test_a_node_is_online_offline_or_silent(fleet: Fleet) -> None:
    topic = "faas/node/pi"
    fleet.take(Message(topic, {"node": "pi", "state": "online", "instance": "a", "version": "1"}), 0.0)
    status = {"node": "pi", "memory": {"process_rss_bytes": 5}, "device": {"temperature_c": 81.0}, "uptime_s": 3}
    fleet.take(Message("faas/response/admin/status", status), 1.0)
    fleet.take(listed(1), 1.0)
    (node,) = fleet.document(2.0)["nodes"]
    assert (node["state"], node["server_rss_bytes"], node["temperature_c"]) == ("online", 5, 81.0)
    assert fleet.document(60.0)["nodes"][0]["state"] == "silent"
    fleet.take(Message(topic, {"node": "pi", "state": "offline", "instance": "a"}), 61.0)
    assert fleet.document(61.0)["nodes"][0]["state"] == "offline"
    assert fleet.document(61.0)["functions"] == []


def test_only_the_node_asked_for_is_shown() -> None:
    fleet = Fleet(Topics("faas"), "pi")
    fleet.take(listed(1, node="other"), 0.0)
    assert fleet.document(0.0) == {"nodes": [], "functions": []}


def test_a_screen_is_cut_to_its_size_and_clears_what_was_there(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "shows_tables", lambda: True)
    fleet.take(Message("faas/response/admin/status", {"node": "pi\x1b[2J", "uptime_s": 3}), 0.0)
    fleet.take(listed(1, node="pi\x1b[2J", reason="x" * 500), 0.0)
    lines = list(top.lines_of(fleet.document(0.0), "pi:1883", "lost"))
    drawn = top.drawn(lines, 60, 5)
    assert "\x1b[2J" not in drawn
    shown = drawn.removeprefix("\x1b[H").removesuffix("\x1b[J").split("\x1b[K\r\n")
    assert len(shown) == 5  # four, and nothing behind the last
    assert all(len(line) <= 60 for line in shown)
    assert shown[3].endswith(" more")
