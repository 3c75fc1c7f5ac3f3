"""Which functions a message calls. Pure but for its cache: filters, topics and subscription identifiers.

A broker that speaks MQTT 5 delivers a message once for each filter that matches it, and says which by an identifier.
So that a function is called once, the first of its filters that matches is responsible for it, and what comes by
another is ignored. A broker that names no identifier delivers once, and whatever matches is called. (RabbitMQ does so
as long as filters that overlap have one QoS.)
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tinyfaas.model import FunctionSpec, Trigger
from tinyfaas.topics import SHARE, matches, overlap, unshared

_MOST_CACHED = 1_024
_LARGEST_IDENTIFIER = 268_435_455


@dataclass(frozen=True, slots=True)
class Target:
    """A function that a message calls, and the trigger because of which, by the filter that the broker knows."""

    function: str
    trigger: Trigger
    largest_bytes: int
    subscribed: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """How a filter is to be subscribed to: `retained` says whether anyone wants what the broker has retained."""

    qos: int
    retained: bool
    identifier: int


@dataclass(frozen=True, slots=True)
class _Wired:
    """A trigger as it is looked for."""

    matching: str
    identifier: int
    target: Target


class Triggers:
    """The triggers of all functions; a change replaces the table whole, so any thread may ask.

    In a `group` the nodes that serve a function share what triggers it. Each function has a share of its own there:
    the nodes of a group need not have the same functions. `reserved` filters are the server's own requests, which
    trigger nothing. Where the broker names no `identifiers`, filters that overlap are subscribed to with one QoS.
    """

    def __init__(self, reserved: tuple[str, ...], group: str = "", *, identifiers: bool = True) -> None:
        self._reserved = reserved
        self._identifiers = identifiers
        self._group = group
        self._table: tuple[tuple[_Wired, ...], ...] = ()
        self._cache: dict[tuple[str, tuple[int, ...]], tuple[Target, ...]] = {}
        self._newcomers: dict[str, frozenset[str]] = {}
        self.anew: frozenset[str] = frozenset()

    def follow(self, specs: Iterable[FunctionSpec]) -> list[tuple[str, str]]:
        """Go by these functions from now on; returns functions with a topic of theirs that is not heeded.

        `anew` are then the filters that stand and have functions now that want to be shown what is retained. It is
        shown to them alone: the others have seen it.
        """
        table, unheeded = [], []
        for spec in specs:
            wired = []
            for trigger in spec.wiring.trigger:
                if any(overlap(unshared(trigger.topic), own) for own in self._reserved):
                    unheeded.append((spec.name, trigger.topic))
                    continue
                subscribed = self._subscribed(spec.name, trigger.topic)
                target = Target(spec.name, trigger, spec.limits.max_payload_bytes, subscribed)
                wired.append(_Wired(unshared(subscribed), identifier_of(subscribed), target))
            if wired:
                table.append(tuple(wired))
        standing, before = self.wishes().keys(), self._retained()
        self._table = tuple(table)
        self._cache = {}
        newcomers: dict[str, set[str]] = {}
        for subscribed, function in self._retained() - before:
            newcomers.setdefault(subscribed, set()).add(function)
        self.anew = frozenset(standing & newcomers.keys())
        for subscribed, functions in newcomers.items():
            if subscribed in standing:
                self._newcomers[subscribed] = frozenset(functions)
            else:
                self._newcomers.pop(subscribed, None)
        return unheeded

    def everyone_is_new(self) -> None:
        """The broker has forgotten our subscriptions: what it then shows it shows to all."""
        self._newcomers = {}

    def wishes(self) -> Mapping[str, Wish]:
        """What to subscribe to, for all functions together."""
        wishes: dict[str, Wish] = {}
        for wired in self._table:
            for each in wired:
                trigger, subscribed = each.target.trigger, each.target.subscribed
                other = wishes.get(subscribed)
                wishes[subscribed] = Wish(
                    max(trigger.qos, other.qos if other else 0),
                    trigger.retained or (other.retained if other else False),
                    each.identifier,
                )
        return wishes if self._identifiers else _levelled(wishes)

    def targets(self, topic: str, identifiers: tuple[int, ...] = ()) -> tuple[Target, ...]:
        """The functions that a message calls which came by these subscriptions, or by one that has no identifier."""
        cache = self._cache
        found = cache.get((topic, identifiers))
        if found is None:
            found = tuple(self._targets(topic, identifiers))
            if len(cache) >= _MOST_CACHED:
                cache.clear()
            cache[topic, identifiers] = found
        return found

    def shown(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        """Those of a message's targets that are to be called by it though it is one that the broker had retained."""
        return tuple(
            target
            for target in targets
            if target.trigger.retained and target.function in self._newcomers.get(target.subscribed, (target.function,))
        )

    def is_newcomer(self, function: str, trigger: Trigger) -> bool:
        """Whether what is retained is shown because of this function."""
        return function in self._newcomers.get(self._subscribed(function, trigger.topic), ())

    def _retained(self) -> set[tuple[str, str]]:
        wired = (each.target for each in itertools.chain.from_iterable(self._table))
        return {(target.subscribed, target.function) for target in wired if target.trigger.retained}

    def _targets(self, topic: str, identifiers: tuple[int, ...]) -> Iterable[Target]:
        for wired in self._table:
            responsible = next((each for each in wired if matches(each.matching, topic)), None)
            if responsible is not None and (not identifiers or responsible.identifier in identifiers):
                yield responsible.target

    def _subscribed(self, function: str, topic_filter: str) -> str:
        if self._group and not topic_filter.startswith(SHARE):
            return f"{SHARE}{self._group}.{function}/{topic_filter}"
        return topic_filter


def _levelled(wishes: dict[str, Wish]) -> dict[str, Wish]:
    """The same with QoS 1 for each filter that overlaps one with QoS 1."""
    below = {topic for topic, wish in wishes.items() if not wish.qos}
    reaching = wishes.keys() - below
    while reaching:
        reaching = {topic for topic in below if any(overlap(unshared(topic), unshared(each)) for each in reaching)}
        below -= reaching
    return {topic: wish if topic in below else replace(wish, qos=1) for topic, wish in wishes.items()}


def identifier_of(topic_filter: str) -> int:
    """The subscription identifier of a filter: the same after a restart, since the broker keeps it for our session."""
    digest = hashlib.blake2b(topic_filter.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _LARGEST_IDENTIFIER + 1
