"""What goes out on a connection: publications, answers, and with each answer the acknowledgement of its request.

Whichever thread made an answer writes it, straight to the socket. What can't go out now is kept, and goes out after the
reconnect.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

from tinyfaas.config import Mqtt
from tinyfaas.delivery import Ledger
from tinyfaas.gateway import packets
from tinyfaas.gateway.acks import Acknowledgements
from tinyfaas.gateway.client import ServerClient
from tinyfaas.gateway.outbox import LARGEST_BYTES, Outbox
from tinyfaas.model import Answer, Firing, Publication, Request

_GRACE_S = 5.0  # after a reconnect, how long the broker has to deliver again what it holds
_TURN_S = 5.0  # how long a function's publication waits for the broker to confirm others
_TURN_LOOK_S = 0.005
_SILENCE = Answer("", b"")


class Outflow:
    """Writes by `client`; `look` sees to what the socket doesn't take at once. Any thread may call it.

    `recall` finds the recorded answer of a request. A request that has its answer is settled in `ledger`.
    """

    def __init__(
        self, client: ServerClient, settings: Mqtt, error_topic: str, ledger: Ledger,
        recall: Callable[[Request], Answer | None], look: Callable[[], None],
    ) -> None:  # fmt: skip
        self._client = client
        self._v5 = settings.protocol == "5"
        self._error_topic = error_topic
        self._ledger = ledger
        self._look = look
        self._outbox = Outbox(recall)
        self._acks = Acknowledgements(in_order_of_receipt=settings.ack_order == "received")
        self._sending = threading.RLock()
        self._receive_maximum = 65_535
        self._published = 0
        self._confirmed = 0
        self._confirming = itertools.count(1)
        self.up = False  # the broker has accepted us and we have subscribed
        self.up_since_s = 0.0
        self.epoch = 0  # of the connection: a request of an earlier one can't be acknowledged any more

    @property
    def dropped_answers(self) -> int:
        """Answers that were lost while the broker was away."""
        return self._outbox.dropped

    # --- of any thread -------------------------------------------------------------------------------------------

    def say(self, queue: Callable[[], object]) -> bool:
        """Have paho queue something, and write it; False if the connection is down."""
        with self._sending:
            if not self.up:
                return False
            queue()
            self._flush()
        return True

    def publish(self, publication: Publication, chain: str = "") -> bool:
        """Publish something that answers no request; False if the connection is down."""
        return self.say(lambda: self._publish(publication, chain))

    def tell(self, request: Request, answer: Answer) -> bool:
        """Publish an answer to what needs no acknowledgement; False, and lost, if the connection is down."""
        return self.say(lambda: self._publish_answer(request, answer))

    def publish_in_turn(self, publication: Publication, chain: str) -> str:
        """Publish what a function says; returns why not: that the connection is down, or nothing is confirmed any more.

        Waits where the broker is to confirm first what it has, so that no more is on its way than it takes.
        """
        give_up_s = time.monotonic() + _TURN_S
        while True:
            with self._sending:
                if not self.up:
                    return "the broker is away"
                if not publication.qos or self.has_window():
                    self.publish(publication, chain)
                    return ""
            if time.monotonic() > give_up_s:
                return "the broker confirms nothing"
            time.sleep(_TURN_LOOK_S)

    def reply(self, request: Request, answer: Answer | None) -> None:
        """Publish an answer, then acknowledge its request. Without one the request is left to the broker.

        Both go out with the next `send`. What can't be sent now is kept and sent after the reconnect.
        """
        with self._sending:
            if answer is None:
                self._ledger.settle(request)
                return
            request.answer = answer
            if self._awaits_redelivery(request):
                self._outbox.keep(request, until_redelivered=True)
            elif not self.up or not self.has_window():
                self._outbox.keep(request, until_redelivered=False)
            else:
                self._send(request)

    def send(self) -> None:
        """Let what was replied go out."""
        with self._sending:
            if self.up:
                self._flush()

    def done_with(self, cause: Request) -> None:
        """What a message has called once less to call is published; after the last, the message is acknowledged."""
        with self._sending:
            cause.firings -= 1
            if not cause.firings:
                self.reply(cause, _SILENCE)

    def has_window(self) -> bool:
        """Whether the broker takes one more publication before it has confirmed those it has."""
        return (
            self._published - self._confirmed < self._receive_maximum
            and self._client.unconfirmed_bytes < LARGEST_BYTES
        )  # fmt: skip

    # --- of the thread that reads --------------------------------------------------------------------------------

    def begin(self, receive_maximum: int) -> None:
        """The broker has accepted us: it counts anew what it confirms, and takes so much unconfirmed."""
        self._receive_maximum = receive_maximum
        self._published, self._confirmed, self._confirming = 0, 0, itertools.count(1)
        self.epoch += 1  # nothing is sent before `came_up`, but messages may come right behind this
        self._acks.begin_connection()

    def came_up(self, *, session_present: bool) -> None:
        """Publish from now on, first of all what the last connection has not had confirmed."""
        with self._sending:
            self.up, self.up_since_s = True, time.monotonic()
            self._published += self._client.publish_again(session_present=session_present)
            if not session_present:
                self._outbox.give_up_waiting()

    def went_down(self) -> bool:
        """Keep what is to go out from now on; returns whether the connection was up."""
        with self._sending:
            was_up, self.up = self.up, False
        return was_up

    def hang_up(self) -> None:
        """Disconnect in order, so that the will is not sent."""
        with self._sending:
            if self.up:
                self.up = False
                self._client.disconnect()
                self._flush()

    def received(self, request: Request) -> None:
        """A request has come, and will be acknowledged in its turn."""
        if request.mid:
            self._acks.received(request.mid)

    def redelivered(self, request: Request) -> None:
        """A request has come again: if it has its answer by now, that can go out."""
        with self._sending:
            self._outbox.redelivered(request)

    def confirmed(self) -> None:
        """The broker has confirmed a publication."""
        # Several threads come here without a common lock; a count never loses a step as `+= 1` would.
        self._confirmed = next(self._confirming)

    def send_kept(self) -> None:
        """Send of what is kept as much as can go out by now."""
        if not self._outbox:
            return
        with self._sending:
            if not self.up:
                return
            if time.monotonic() >= self.up_since_s + _GRACE_S:
                self._outbox.give_up_waiting()
            while self.has_window() and (request := self._outbox.next()) is not None:
                self._send(request)
            self._flush()

    def write(self) -> None:
        """Write what waits for the socket."""
        if self._client.want_write():
            with self._sending:
                self._client.loop_write()

    # --- under the lock ------------------------------------------------------------------------------------------

    def _awaits_redelivery(self, request: Request) -> bool:
        """Whether a request must come again before it can be acknowledged, and may yet do so."""
        if not request.mid:
            return False
        if not self.up:
            return True
        return request.epoch != self.epoch and time.monotonic() < self.up_since_s + _GRACE_S

    def _send(self, request: Request) -> None:
        assert request.answer is not None
        acknowledged = request.mid and request.epoch == self.epoch
        self._publish_answer(request, request.answer)
        if acknowledged:
            for mid in self._acks.answered(request.mid):
                self._client.acknowledge(mid)
        self._ledger.settle(request)
        if isinstance(request, Firing):
            for cause in request.causes:
                self.done_with(cause)

    def _publish_answer(self, request: Request, answer: Answer) -> None:
        if answer.payload and answer.topic:
            chain = answer.chain if request.chain or request.correlation is None else ""
            self._publish(Publication(answer.topic, answer.payload, request.qos, json=True), chain, request.correlation)
        for publication in answer.publications:
            self._publish(publication, answer.chain)
        if answer.error_payload:
            self._publish(Publication(self._error_topic, answer.error_payload, request.qos, json=True), answer.chain)

    def _publish(self, publication: Publication, chain: str = "", correlation: bytes | None = None) -> None:
        self._published += bool(publication.qos)
        properties = packets.properties(correlation, chain, json=publication.json) if self._v5 else b""
        self._client.publish_packed(publication, properties)

    def _flush(self) -> None:
        """Write what is queued, as far as the socket takes it; who attends sees to the rest."""
        self._client.loop_write()
        if self._client.want_write():
            self._look()
