"""The ledger of requests in flight: what is held unanswered, within bounds, and what the broker delivers again.

A redelivery is recognised by session, packet id and digest. While its request is held it joins that one; once it was
answered, the recorded answer is sent again. A new request is always run, whatever it looks like.
"""

from __future__ import annotations

import enum
import hashlib
import mmap
import threading
from collections.abc import Callable
from pathlib import Path

from tinyfaas import log
from tinyfaas.config import Queue
from tinyfaas.history import History
from tinyfaas.model import Firing, Request
from tinyfaas.protocol import encode

logger = log.get("delivery")

LARGEST_KEPT_ANSWER_BYTES = 262_144


class Admission(enum.Enum):
    """What becomes of a message."""

    NEW = enum.auto()
    JOINED = enum.auto()
    REFUSED = enum.auto()


def digest_of(topic: str, payload: bytes, correlation: bytes | None) -> int:
    """What, together with its packet id, makes a request recognisable; never 0."""
    digest = hashlib.blake2b(payload, digest_size=8)
    digest.update(b"\0%s\0%s" % (topic.encode(), correlation or b""))
    return int.from_bytes(digest.digest(), "big") or 1


def _no_digests() -> memoryview[int]:
    """A digest for each packet id, all 0. Of this memory only what is written to is used."""
    return memoryview(mmap.mmap(-1, 8 * 65_536)).cast("Q")


class Ledger:
    """Counts and bounds the requests of one connection. Without a history, no answer outlives its request."""

    def __init__(self, bounds: Queue, history: History | None = None, answers_dir: Path | None = None) -> None:
        self._bounds = bounds
        self._history = history
        self._answers_dir = answers_dir
        self._changing = threading.Lock()
        self._held: dict[int, Request] = {}
        self._answered = _no_digests()
        self._recording = threading.Lock()
        self._partly: dict[int, tuple[int, set[str]]] = {}
        self.count = 0
        self.bytes = 0
        self.redelivered = 0
        self.refused = 0

    def reload(self, bounds: Queue) -> None:
        """Go by other bounds from now on; what is held beyond them stays."""
        self._bounds = bounds

    def restore(self, answered: dict[int, int]) -> None:
        """Take over what the history says was answered before this start."""
        for mid, digest in answered.items():
            self._answered[mid & 0xFFFF] = digest
        self._partly = dict(self._history.partly) if self._history else {}

    def admit(self, request: Request) -> tuple[Admission, Request]:
        """Hold a request, or join it to the one held that it repeats. QoS 0 beyond the bounds is refused.

        Returns the request that is held.
        """
        with self._changing:
            if not request.qos:
                if self._full():
                    self.refused += 1
                    return Admission.REFUSED, request
                self._hold(request)
                return Admission.NEW, request
            held = self._held.get(request.mid)
            if held is not None and request.dup and held.digest == request.digest:
                held.epoch = request.epoch
                self.redelivered += 1
                return Admission.JOINED, held
            if held is not None:
                held.mid = 0  # the broker gave its packet id away: nobody waits for its acknowledgement
            self._held[request.mid] = request
            self._hold(request)
            self._renew(request)
            return Admission.NEW, request

    def hold(self, request: Request) -> None:
        """Hold a request of the server's own, which no broker delivered."""
        with self._changing:
            self._hold(request)

    def settle(self, request: Request) -> None:
        """A request has its answer, and nothing waits for it any more."""
        request.settled = True
        if not (isinstance(request, Firing) and request.causes):  # of that one the causes are held
            with self._changing:
                self.count -= 1
                self.bytes -= request.size
                if request.mid and self._held.get(request.mid) is request:
                    del self._held[request.mid]
            if self._partly and request.mid and self._partly.pop(request.mid, (0, set()))[0]:
                self.note_answered(request)  # what it did not call has been dropped
        if request.kept_in is not None:
            request.kept_in.unlink(missing_ok=True)

    def full(self) -> bool:
        """Whether as much is held as may be: QoS 0 is refused from here on."""
        with self._changing:
            return self._full()

    def overfull(self) -> bool:
        """Whether no more may be taken off the broker: QoS 1, never refused, has passed the bounds by a quarter.

        A broker that keeps to the Receive Maximum does not get us there by count; large payloads do.
        """
        with self._changing:
            most = self._bounds
            return self.count > most.max_requests * 5 // 4 or self.bytes > most.max_bytes * 5 // 4

    def was_answered(self, request: Request) -> bool:
        """Whether this is a request delivered again after it was answered."""
        return bool(request.dup and request.mid and self._history and self._answered[request.mid] == request.digest)

    def has_twin(self, request: Request, digest: int) -> bool:
        """Whether another request of this session says the same: held, or answered before."""
        with self._changing:
            held = any(each is not request and each.digest == digest for each in self._held.values())
        return held or digest in self._answered

    def recorded_answer(self, request: Request) -> bytes | None:
        """The answer that a request got before; None if it was too large to be kept."""
        assert self._history is not None
        try:
            return self._answer_file(request).read_bytes()
        except OSError:
            record = self._history.answer_to(self.key(request))
            return encode(record) if record else None

    def keep_answer(self, request: Request, answer: bytes) -> None:
        """Keep an answer that the history has to cut, so that it is there when its request is delivered again."""
        if not _cause(request).mid or self._answers_dir is None or len(answer) > LARGEST_KEPT_ANSWER_BYTES:
            return
        file = self._answer_file(request)
        try:
            file.write_bytes(answer)
            request.kept_in = file
        except OSError as error:
            logger.warning("answer_not_kept", error=str(error), function=request.function)

    def note_answered(self, request: Request) -> None:
        """Remember that a request was answered, for when it is delivered again."""
        if request.mid and self._history is not None:
            self._answered[request.mid] = request.digest

    def was_recorded(self, request: Request, function: str) -> bool:
        """Whether this is a message delivered again after this function's call for it was recorded."""
        if not request.dup or not request.mid:
            return False
        digest, functions = self._partly.get(request.mid, (0, ()))
        return self.was_answered(request) or (digest == request.digest and function in functions)

    def record_firing(self, firing: Firing, write: Callable[[bytes], None]) -> None:
        """Have the line of a firing written, with the keys of its messages: those that have all their lines with it,
        and those whose other functions are not recorded yet.
        """
        with self._recording:
            whole: list[Request] = []
            part: list[Request] = []
            for cause in firing.causes:
                cause.unrecorded -= 1
                if cause.mid:
                    (part if cause.unrecorded else whole).append(cause)
            keys = [b",".join(b'"%s"' % self.key(cause).encode() for cause in causes) for causes in (whole, part)]
            if len(whole) == 1 and not part:
                write(b',"delivery":' + keys[0])
            elif whole or part:
                lead = b',"lead":"%s"' % self.key(_cause(firing)).encode() if len(firing.causes) > 1 else b""
                write(lead + b',"deliveries":[%s],"partly":[%s]' % (keys[0], keys[1]))
            else:
                write(b"")
            for cause in whole:
                self._partly.pop(cause.mid, None)
                self.note_answered(cause)
            for cause in part:
                digest, functions = self._partly.get(cause.mid, (0, set()))
                functions = functions if digest == cause.digest else set()
                self._partly[cause.mid] = (cause.digest, functions | {firing.function})

    def recorded_firing(self, firing: Firing) -> bytes | None:
        """What came of a firing that was recorded before, as its answer; None if that was too large to be kept.

        Of a batch only the message that led it is given that, so that it is not published once for each.
        """
        assert self._history is not None
        try:
            return self._answer_file(firing).read_bytes()
        except OSError:
            record = self._history.firing_of(firing.function, self.key(firing.causes[0]))
            return encode(record) if record else None

    def key(self, request: Request) -> str:
        """What a redelivery of this request has in common with it."""
        session = self._history.session if self._history else ""
        return f"{session}.{request.mid}.{request.digest:016x}"

    def resume(self, *, session_present: bool) -> None:
        """A connection stands. If the broker has forgotten our session, what is held will never be delivered again."""
        if session_present and (self._history is None or self._history.session):
            return
        with self._changing:
            for request in self._held.values():
                request.mid = 0
            self._held.clear()
        if self._history is not None:
            self._answered = _no_digests()
            self._partly = {}
            self._history.begin_session()

    def _full(self) -> bool:
        return self.count >= self._bounds.max_requests or self.bytes >= self._bounds.max_bytes

    def _hold(self, request: Request) -> None:
        request.size = len(request.payload) + len(request.topic)
        self.count += 1
        self.bytes += request.size

    def _renew(self, request: Request) -> None:
        """A new request whose key belonged to an answered one: were it not said, a crash would give it that answer."""
        if not request.dup:
            self._partly.pop(request.mid, None)
        if self._history is None or request.dup or self._answered[request.mid] != request.digest:
            return
        self._answered[request.mid] = 0
        self._history.note_received(self.key(request))

    def _answer_file(self, request: Request) -> Path:
        assert self._answers_dir is not None
        function = f".{request.function}" if isinstance(request, Firing) else ""
        return self._answers_dir / f"{self.key(_cause(request))}{function}.json"


def _cause(request: Request) -> Request:
    """The message that a request came in, or that leads its batch: the first that may be delivered again."""
    if not isinstance(request, Firing) or not request.causes:
        return request
    return next((cause for cause in request.causes if cause.mid), request.causes[0])
