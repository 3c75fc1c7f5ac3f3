"""Answers that can't be sent now: the broker is away, slow, or about to deliver their request again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tinyfaas.model import Answer, Request

LARGEST_BYTES = 8_388_608


class Outbox:
    """Keeps requests with their answers, within a bound of bytes; the caller serialises access.

    Beyond the bound an answer that stands on disk is read again when its turn comes (`recall`); any other is lost,
    oldest first, and counted in `dropped`.
    """

    def __init__(self, recall: Callable[[Request], Answer | None], largest_bytes: int = LARGEST_BYTES) -> None:
        self._recall = recall
        self._largest_bytes = largest_bytes
        self._bytes = 0
        self._ready: deque[Request] = deque()
        self._awaiting: dict[int, Request] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._ready) + len(self._awaiting)

    def keep(self, request: Request, *, until_redelivered: bool) -> None:
        """Keep a request that has its answer; `until_redelivered`: only a new delivery can be acknowledged."""
        if until_redelivered:
            self._awaiting[id(request)] = request
        else:
            self._ready.append(request)
        self._bytes += _size(request)
        if self._bytes > self._largest_bytes:
            self._bytes -= _size(request)
            request.answer = None

    def redelivered(self, request: Request) -> None:
        """The request of a kept answer has come again."""
        if self._awaiting.pop(id(request), None) is not None:
            self._ready.append(request)

    def give_up_waiting(self) -> None:
        """No redelivery is to be expected any more: what awaits one may go out."""
        self._ready.extend(self._awaiting.values())
        self._awaiting.clear()

    def next(self) -> Request | None:
        """The next request to answer, with its answer; None if there is none. One whose answer is lost is skipped."""
        while self._ready:
            request = self._ready.popleft()
            self._bytes -= _size(request)
            if request.answer is None:
                request.answer = self._recall(request)
            if request.answer is None:
                self.dropped += 1
                request.answer = Answer("", b"")
            return request
        return None


def _size(request: Request) -> int:
    answer = request.answer
    if answer is None:
        return 0
    return len(answer.payload) + sum(len(each.payload) for each in answer.publications)
