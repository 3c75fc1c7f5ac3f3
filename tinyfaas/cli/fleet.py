"""What is known of every node and function, put together from what is heard: presence, answers to status and list, and
the answers to calls. Pure: messages in, one document out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tinyfaas.cli.line import Message
from tinyfaas.protocol import Topics

_SAMPLES = 5  # looks that a rate is taken over
_RECENT_S = 60.0  # how far back durations are looked at
_MOST_DURATIONS = 2_000
_TWICE = 16  # answers within which the same one may come again
_SILENT_S = 15.0  # a node that says online and nothing else

Document = dict[str, Any]


@dataclass
class _Function:
    """One function on one node: what list says of it, counters as they grew, and how long calls took."""

    details: Mapping[str, Any] = field(default_factory=dict)
    counts: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    durations: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_MOST_DURATIONS))

    def rates(self) -> tuple[float, float]:
        """Calls and errors a second; none while it has been looked at only once."""
        if len(self.counts) < 2:
            return 0.0, 0.0
        (began_s, calls, errors), (ended_s, more_calls, more_errors) = self.counts[0], self.counts[-1]
        span_s = max(ended_s - began_s, 0.001)
        return (more_calls - calls) / span_s, (more_errors - errors) / span_s


@dataclass
class _Node:
    """One node: its presence, its last status, and its functions."""

    presence: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    heard_s: float = 0.0
    functions: dict[str, _Function] = field(default_factory=dict)


class Fleet:
    """All nodes of one broker, or the one named `only`."""

    def __init__(self, topics: Topics, only: str = "") -> None:
        self._topics = topics
        self._only = only
        self._nodes: dict[str, _Node] = {}
        self._seen: deque[Any] = deque(maxlen=_TWICE)

    def topics(self) -> list[str]:
        """What has to be heard; only the first must be allowed."""
        topics = self._topics
        return [topics.admin_answer("status", ""), topics.admin_answer("list", ""), topics.node("+"),
                topics.invoke_answer("+"), topics.error]  # fmt: skip

    def take(self, message: Message, now_s: float | None = None) -> None:
        """Learn from a message; `now_s` is monotonic."""
        now_s = time.monotonic() if now_s is None else now_s
        body = message.body
        name = str(body.get("node") or "")
        if not name or (self._only and name != self._only):
            return
        if message.topic == self._topics.node(name):
            self._learn_presence(self._node(name), body)
        elif message.topic == self._topics.admin_answer("status", ""):
            self._node(name).status, self._node(name).heard_s = body, now_s
        elif message.topic == self._topics.admin_answer("list", ""):
            self._learn_functions(self._node(name), body, now_s)
        elif isinstance(took_ms := body.get("duration_ms"), int | float) and body.get("function"):
            function = self._node(name).functions.get(str(body["function"]))
            if function is not None and body.get("id") not in self._seen:
                self._seen.append(body.get("id"))  # an error stands on its function's topic, and on that of errors
                function.durations.append((now_s, float(took_ms)))

    def document(self, now_s: float | None = None) -> Document:
        """All of it: `nodes` and `functions`, each an array; what can't be told is null."""
        now_s = time.monotonic() if now_s is None else now_s
        return {
            "nodes": [_of_node(name, node, now_s) for name, node in sorted(self._nodes.items())],
            "functions": [
                _of_function(name, function, each, now_s)
                for name, node in sorted(self._nodes.items())
                for function, each in sorted(node.functions.items())
            ],
        }

    def _node(self, name: str) -> _Node:
        return self._nodes.setdefault(name, _Node())

    def _learn_presence(self, node: _Node, body: Mapping[str, Any]) -> None:
        if body.get("instance") != node.presence.get("instance"):
            node.functions.clear()  # counters may have begun anew
        node.presence = body
        if body.get("state") != "online":
            node.functions.clear()

    def _learn_functions(self, node: _Node, body: Mapping[str, Any], now_s: float) -> None:
        details = {str(each.get("function")): each for each in _objects(body.get("details"))}
        for gone in node.functions.keys() - details.keys():
            del node.functions[gone]
        for name, each in details.items():
            function = node.functions.setdefault(name, _Function())
            function.details = each
            calls, errors = int(each.get("calls", 0)), int(each.get("errors", 0))
            if function.counts and calls < function.counts[-1][1]:
                function.counts.clear()  # deleted and uploaded anew
            function.counts.append((now_s, calls, errors))


def _of_node(name: str, node: _Node, now_s: float) -> Document:
    status = node.status
    online = node.presence.get("state", "online") == "online"
    silent = online and now_s - node.heard_s > _SILENT_S
    memory, device = _object(status.get("memory")), _object(status.get("device"))
    return {
        "node": name,
        "state": "silent" if silent else "online" if online else "offline",
        "version": status.get("version", node.presence.get("version")),
        "uptime_s": status.get("uptime_s") if online else None,
        "cpu_percent": _object(status.get("cpu")).get("percent"),
        "load_1m": _object(status.get("cpu")).get("load_1m"),
        "memory_used_percent": memory.get("used_percent"),
        "memory_available_bytes": memory.get("available_bytes"),
        "server_rss_bytes": memory.get("process_rss_bytes"),
        "workers_rss_bytes": memory.get("workers_rss_bytes"),
        "temperature_c": device.get("temperature_c"),
        "disk_free_bytes": device.get("disk_free_bytes"),
        "waiting": _object(status.get("queue")).get("waiting"),
        "running": _object(status.get("queue")).get("running"),
    }


def _of_function(node: str, name: str, function: _Function, now_s: float) -> Document:
    calls_per_s, errors_per_s = function.rates()
    recent = sorted(took_ms for came_s, took_ms in function.durations if now_s - came_s <= _RECENT_S)
    details = function.details
    return {
        "node": node,
        "function": name,
        **{key: details.get(key) for key in ("version", "state", "reason", "calls", "errors", "warm")},
        "calls_per_s": round(calls_per_s, 2),
        "errors_per_s": round(errors_per_s, 2),
        "p50_ms": percentile(recent, 50),
        "p99_ms": percentile(recent, 99),
    }


def percentile(values: list[float], percent: int) -> float | None:
    """Of sorted values the one that so many percent are not above; None of nothing."""
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> Iterable[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
