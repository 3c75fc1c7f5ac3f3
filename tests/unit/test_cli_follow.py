"""Which records are new, whatever comes between two looks at a history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from tinyfaas.cli.follow import Follow
from tinyfaas.cli.line import Message
from tinyfaas.cli.station import Station

BELL = Message("faas/response/invoke/f", {"function": "f", "duration_ms": 1.0, "request_id": "another"})


class Asked:
    """Notes what would be asked."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def ask(self, _command: str, _function: str, body: Mapping[str, Any], _expiry_s: float) -> str:
        self.bodies.append(dict(body))
        return f"r{len(self.bodies)}"


class Watcher:
    """Follows function f, with histories of the test's making."""

    def __init__(self, **query: Any) -> None:
        self.asked = Asked()
        self.follow = Follow(cast("Station", self.asked), "f", query)

    def look(self, ids: list[int], node: str = "pi") -> list[int]:
        """What is new if a node's history holds these records."""
        self.follow.take(BELL)
        self.follow._next_s = 0.0
        self.follow.ask()
        return self.hear(ids, node)

    def hear(self, ids: list[int], node: str = "pi") -> list[int]:
        """What is new if the question that was asked last has this answer."""
        logs = [{"id": str(number)} for number in ids][-self.asked.bodies[-1]["limit"] :]
        body = {"request_id": f"r{len(self.asked.bodies)}", "node": node, "logs": logs}
        return [int(record["id"]) for record in self.follow.take(Message("faas/response/admin/logs/f", body))]


def test_the_first_look_shows_the_last_few_and_the_next_what_is_new() -> None:
    watcher = Watcher()
    assert watcher.look(list(range(50))) == list(range(40, 50))
    assert watcher.look(list(range(50))) == []
    assert watcher.look(list(range(53))) == [50, 51, 52]


def test_of_an_empty_history_everything_that_comes_is_new() -> None:
    watcher = Watcher()
    assert watcher.look([]) == []
    assert watcher.look(list(range(30))) == list(range(30))


def test_when_more_has_come_than_was_asked_for_it_is_asked_again() -> None:
    watcher = Watcher(limit=1)
    assert watcher.look([1]) == [1]
    many = list(range(1, 300))
    assert watcher.look(many) == []
    assert watcher.follow.due_s == 0.0
    watcher.follow.ask()
    assert watcher.asked.bodies[-1]["limit"] == 10_000
    assert watcher.hear(many) == many[1:]
    assert watcher.look([*many, 300]) == [300]
    assert watcher.asked.bodies[-1]["limit"] == 100


def test_a_history_that_was_forgotten_begins_anew() -> None:
    watcher = Watcher()
    watcher.look([1, 2])
    assert watcher.look([3]) == [3]


def test_each_node_has_a_history_of_its_own() -> None:
    watcher = Watcher()
    assert watcher.look([1, 2], "a") == [1, 2]
    assert watcher.hear([1, 5], "b") == [1, 5]
    assert (watcher.look([1, 2, 3], "a"), watcher.hear([1, 5], "b")) == ([3], [])


def test_what_is_asked_for_is_asked_for_each_time() -> None:
    watcher = Watcher(status="error", limit=7)
    watcher.look([])
    assert watcher.asked.bodies == [{"status": "error", "limit": 7}]
    watcher.look([])
    assert watcher.asked.bodies[-1] == {"status": "error", "limit": 100}


def test_answers_of_the_function_ring_the_bell_and_no_others() -> None:
    watcher = Watcher()
    watcher.look([])
    later_s = watcher.follow.due_s
    watcher.follow.take(Message("faas/response/error", {"function": "g", "duration_ms": 1.0}))
    assert watcher.follow.due_s == later_s
    watcher.follow.take(BELL)
    assert watcher.follow.due_s < later_s


def test_that_one_node_lacks_the_function_is_no_reason_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher()
    watcher.follow.ask()
    error = {"request_id": "r1", "node": "b", "status": "error", "code": "not_found", "error": "no such function: f"}
    watcher.follow.take(Message("faas/response/admin/logs/f", error))
    assert watcher.follow.refusal == {}  # another may have it
    watcher.follow._refused_s = 0.0
    assert watcher.follow.refusal == error
    assert watcher.hear([1], "a") == [1]
    watcher.follow.take(Message("faas/response/admin/logs/f", error))
    assert watcher.follow.refusal == {}
