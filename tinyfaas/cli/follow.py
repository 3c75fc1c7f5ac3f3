"""Follows what a function does: its history is the truth, and its answers are the bell that it has grown.

An answer may go to a topic of the caller's own, where nobody else hears it: so the history is looked at now and then
in any case. What is printed comes line by line, because every look asks for the next ones too. Every node that answers
is followed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tinyfaas.cli import records, show
from tinyfaas.cli.answers import to_json
from tinyfaas.cli.failures import Failed
from tinyfaas.cli.line import Message
from tinyfaas.cli.station import Station
from tinyfaas.protocol import Topics

Record = dict[str, Any]

_FIRST = 10
_USUAL, _MOST = 100, 10_000
_SOON_S = 0.2
_GRACE_S = 1.0
_IDLE_S = 3.0
_LISTENS_S = 10  # what is printed is heard from one look to the next, and one that comes late


def topics_of(topics: Topics, function: str) -> list[str]:
    """What has to be heard to follow a function."""
    answers = [topics.admin_answer("logs", function), topics.error, topics.invoke_answer(function)]
    return [*answers, topics.event("output", function)]


class Follow:
    """The records of one function as they come. `query` are the keys of `logs`."""

    def __init__(self, station: Station, function: str, query: Mapping[str, Any]) -> None:
        self._station = station
        self._function = function
        self._query = {key: value for key, value in query.items() if key != "limit"}
        self._only_some = "status" in query  # what a call prints, it prints before its status is known
        self._asked: dict[str, int] = {}
        self._last: dict[str, str] = {}
        self._next_s = 0.0
        self._limit = int(query.get("limit", _FIRST))
        self._refusal: Mapping[str, Any] = {}
        self._refused_s = math.inf

    @property
    def due_s(self) -> float:
        """When it wants to be looked after again, in monotonic seconds."""
        return min(self._next_s, self._refused_s)

    @property
    def refusal(self) -> Mapping[str, Any]:
        """The error answer, where no node has the function; that one has not is no reason to give up."""
        return self._refusal if not self._last and time.monotonic() >= self._refused_s else {}

    def ask(self) -> None:
        """Ask for the history, if it is time to."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _IDLE_S
        query = {**self._query, "limit": self._limit, **({} if self._only_some else {"output_s": _LISTENS_S})}
        if request_id := self._station.ask("logs", self._function, query, _IDLE_S):
            self._asked = {**dict(list(self._asked.items())[-8:]), request_id: self._limit}

    def take(self, message: Message) -> list[Record]:
        """What is new by a message: records that nobody has been shown, or a line that was printed."""
        body = message.body
        if "stream" in body:
            mine = body.get("function") == self._function and self._station.node in ("", body.get("node"))
            return [body] if mine and not self._only_some else []
        if body.get("request_id") in self._asked and "logs" in body:
            return self._new(str(body.get("node")), body["logs"], self._asked[body["request_id"]])
        if body.get("request_id") in self._asked and body.get("status") == "error":
            if self._last:
                return []
            self._refusal = body
            self._refused_s = min(self._refused_s, time.monotonic() + _GRACE_S)
        elif body.get("function") == self._function and "duration_ms" in body:
            self._next_s = min(self._next_s, time.monotonic() + _SOON_S)
        return []

    def _new(self, node: str, found: Sequence[Record], limit: int) -> list[Record]:
        ids = [str(record.get("id")) for record in found]
        last = self._last.get(node)
        if last in ids:
            found = found[len(ids) - ids[::-1].index(last) :]
        elif last is not None and len(found) >= limit and limit < _MOST:
            self._limit, self._next_s = _MOST, 0.0  # more has come than was asked for
            return []
        self._limit, self._refused_s = _USUAL, math.inf
        self._last[node] = ids[-1] if ids else last or ""
        return list(found)


def run(args: argparse.Namespace, query: Mapping[str, Any]) -> None:
    """Print records until Ctrl-C; raises `Failed` if the server will have none of it."""
    with Station(args, lambda topics: topics_of(topics, args.function)) as station:
        follow = Follow(station, args.function, query)
        lost = ""
        while True:
            follow.ask()
            if (message := station.hear(follow.due_s)) is not None:
                for record in follow.take(message):
                    if args.request in (None, record.get("request_id")):
                        print_record(record, as_json=args.json)
            if follow.refusal:
                raise Failed(show.failure(follow.refusal) + show.hint(follow.refusal))
            lost = say_if_lost(station, lost)


def say_if_lost(station: Station, said: str) -> str:
    """Tell once that the broker is away; returns what was told."""
    if station.lost and not said:
        print(f"tinyfaas: {station.lost}; trying again", file=sys.stderr)
    return station.lost


def print_record(record: Record, *, as_json: bool) -> None:
    """One record, as one line; below it of an error what stands behind it. Or a line that the function has printed."""
    if as_json:
        print(to_json(record), flush=True)
        return
    if "stream" in record:
        print(records.printed(record), flush=True)
        return
    print(records.call(record), flush=True)
    if record.get("status") == "error" and (behind := show.behind(record)):
        print("".join(f"    {line}\n" for line in behind.splitlines()), end="", flush=True)
