"""Functions that call themselves by what they publish: seen by the chain of functions that led to a message.

The chain goes with everything that is published in a function's name, as a user property of MQTT 5. MQTT 3.1.1 has
none; there this server remembers for a while what it has published itself, which shows loops within one node.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from tinyfaas.errors import Forbidden

PROPERTY = "tinyfaas-chain"
MOST_LINKS = 16
_SEPARATOR = ","
_LONGEST = 4_096  # characters
_REMEMBERED_S = 60.0
_MOST_REMEMBERED = 4_096


class Loops:
    """Knows one node's functions by `<node>/<function>`. `remembers` where chains can't travel with messages."""

    def __init__(self, node: str, *, remembers: bool) -> None:
        self._node = node
        self.remembers = remembers
        self._changing = threading.Lock()
        self._published: dict[int, tuple[float, str]] = {}
        self.broken = 0

    def check(self, chain: str, function: str) -> None:
        """Refuse to call a function that is in the chain already, or the last of too many. Raises `Forbidden`.

        What that refusal publishes has a chain too; for what it leads to see `exhausted`.
        """
        if not chain:
            return
        links = chain.split(_SEPARATOR)
        again = f"{self._node}/{function}" in links
        if not again and len(links) < MOST_LINKS and len(chain) < _LONGEST:
            return
        self.broken += 1
        shown = " → ".join([*links[:MOST_LINKS], f"{self._node}/{function}"])
        if again:
            raise Forbidden(f"a loop, broken here: {shown}", chain=links[:MOST_LINKS])
        raise Forbidden(f"more than {MOST_LINKS} functions in a row, broken here: {shown}", chain=links[:MOST_LINKS])

    def exhausted(self, chain: str, function: str) -> bool:
        """Whether a loop was broken here before: whoever hears of errors would be called for ever by its own."""
        links = chain.split(_SEPARATOR) if chain else []
        if len(links) <= MOST_LINKS and links.count(f"{self._node}/{function}") <= 1:
            return False
        self.broken += 1
        return True

    def after(self, chain: str, function: str) -> str:
        """The chain of what a function publishes that was called with this one."""
        link = f"{self._node}/{function}"
        return f"{chain}{_SEPARATOR}{link}" if chain else link

    def joined(self, chains: Iterable[str]) -> str:
        """One chain for several messages of one call: who stands in any of them stands in it, as far as there is room.

        Call `check` with each of them before.
        """
        different = sorted(set(chains), key=len, reverse=True)
        links = dict.fromkeys(link for chain in different for link in chain.split(_SEPARATOR) if link)
        return _SEPARATOR.join(list(links)[: MOST_LINKS - 1])

    def published(self, chain: str, topic: str, payload: bytes) -> None:
        """This goes out at the end of a chain."""
        if not self.remembers:
            return
        now_s = time.monotonic()
        with self._changing:
            key = hash((topic, payload))
            self._published.pop(key, None)
            self._published[key] = (now_s + _REMEMBERED_S, chain)
            while len(self._published) > _MOST_REMEMBERED or next(iter(self._published.values()))[0] < now_s:
                del self._published[next(iter(self._published))]

    def recalled(self, topic: str, payload: bytes) -> str:
        """The chain of a message that says the same as one of ours; empty if none does."""
        if not self._published:
            return ""
        until_s, chain = self._published.get(hash((topic, payload)), (0.0, ""))
        return chain if until_s > time.monotonic() else ""
