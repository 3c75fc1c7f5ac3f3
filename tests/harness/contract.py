"""Holds all that the suite's clients hear against docs/asyncapi.yaml, after each test and not while it runs."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest

from scripts.contract.traffic import Contract
from tests.harness.installation import CHECKOUT

if TYPE_CHECKING:
    from tests.harness.client import Message

ASYNCAPI = CHECKOUT / "docs/asyncapi.yaml"
_OURS = ("faas/", "reply/")  # of servers that are not told otherwise
_REQUESTS = ("faas/invoke/", "faas/admin/")
_MOST_TOLD = 10


class Watch:
    """What was heard since the last look. What the suite has published itself, rubbish or not, is nobody's fault."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._heard: deque[Message] = deque()
        self._own: set[tuple[str, int]] = set()
        self.checked = 0

    def note_own(self, topic: str, payload: bytes | str) -> None:
        """Tell of what a client of the suite publishes, before it does."""
        if topic.startswith(_OURS) and not topic.startswith(_REQUESTS):
            self._own.add((topic, hash(payload.encode() if isinstance(payload, str) else payload)))

    def hear(self, message: Message) -> None:
        """Tell of a message; from any thread."""
        if message.topic.startswith(_OURS) and not message.topic.startswith(_REQUESTS):
            self._heard.append(message)

    def faults(self) -> list[str]:
        """What was heard since the last look and breaks the contract. Whoever heard the same hears it once."""
        found, seen = [], set()
        while self._heard:
            message = self._heard.popleft()
            said = (message.topic, hash(message.payload))
            key = (*said, message.qos, message.retain, message.content_type, message.properties)
            if said in self._own or key in seen:
                continue
            seen.add(key)
            self.checked += 1
            found += self._contract.faults(
                message.topic, message.payload, qos=message.qos, retain=message.retain,
                content_type=message.content_type, properties=dict(message.properties),
            )  # fmt: skip
        return found

    def hold(self) -> None:
        """Fail the test that has heard what breaks the contract."""
        if found := self.faults():
            told = [*found[:_MOST_TOLD], *([f"and {len(found) - _MOST_TOLD} more"] * (len(found) > _MOST_TOLD))]
            pytest.fail("not as docs/asyncapi.yaml has it:\n  " + "\n  ".join(told), pytrace=False)
