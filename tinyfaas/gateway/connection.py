"""One connection to the broker: connect for ever, subscribe, receive, publish, acknowledge.

Each connection has a thread of its own, which connects and is always there to read. Any other thread that has nothing
else to do may read by `inflow` as well: a request is then run by the thread that read it. Answers are written by
whichever thread made them, straight to the socket. To wake another thread costs more than to read or to write.

Three locks meet here. That of `inflow` is held by the one that reads. `_sending` guards what goes out and whether the
connection is up; it may be taken under that of `inflow`, and never the other way round. paho holds a lock of its own
while it calls back; so no callback takes `_sending`, and what a callback wants sent, who reads sends later.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tinyfaas import log
from tinyfaas.config import Mqtt
from tinyfaas.delivery import Admission, Ledger, digest_of
from tinyfaas.gateway import packets
from tinyfaas.gateway.acks import Acknowledgements
from tinyfaas.gateway.client import Received, Session, make_client
from tinyfaas.gateway.inflow import Inflow
from tinyfaas.gateway.outbox import Outbox
from tinyfaas.gateway.subscriptions import Subscriptions
from tinyfaas.loops import PROPERTY
from tinyfaas.model import Answer, Firing, Publication, Request
from tinyfaas.pulse import Pulse

logger = log.get("gateway")

_TICK_S = 1.0
_FIRST_PAUSE_S = 0.5
_GRACE_S = 5.0  # after a reconnect, how long the broker has to deliver again what it holds
_STABLE_S = 10.0  # a connection that lasted this long was a good one: the next attempt comes soon
_STANDBY_S = 15.0  # how often a server whose name another one has looks whether that is still so
_LOOKUP_S = 60.0  # to find the broker's address: a resolver asks each of its servers, and asks again
_STOP_S = 2.0
_TURN_S = 5.0  # how long a function's publication waits for the broker to confirm others
_TURN_LOOK_S = 0.005
_SILENCE = Answer("", b"")


@dataclass(frozen=True, slots=True)
class Handlers:
    """Whom the connection tells and asks.

    `accept` gets every new request and `refuse` makes the answer to one beyond the bounds, both on the thread that
    reads. `arrived` hears when that was the connection's own, which runs no request. `recall` finds the recorded answer
    of a request. `changed` hears when the connection has come up or gone down. `other_instance` tells whether another
    server has taken our place.
    """

    accept: Callable[[Request], None]
    arrived: Callable[[], object]
    refuse: Callable[[Request], Answer]
    recall: Callable[[Request], Answer | None]
    changed: Callable[[], None]
    other_instance: Callable[[], str]


class Connection:
    """Everything that is received goes through `ledger`; what is received twice is told apart there."""

    def __init__(
        self, name: str, settings: Mqtt, session: Session, subscriptions: Subscriptions, error_topic: str,
        ledger: Ledger, handlers: Handlers,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._session = session
        self._subscriptions = subscriptions
        self._error_topic = error_topic
        self._ledger = ledger
        self._handlers = handlers
        self._v5 = settings.protocol == "5"
        self._sending = threading.RLock()
        self._up = False
        self._up_since_s = 0.0
        self._epoch = 0
        self._receive_maximum = 65_535
        self._published = 0
        self._confirmed = 0
        self._confirming = itertools.count(1)
        self._outbox = Outbox(handlers.recall)
        self._acks = Acknowledgements(in_order_of_receipt=settings.ack_order == "received")
        self._later: deque[Callable[[], None]] = deque()
        self._stopping = threading.Event()
        self._paused = False
        self._starved = False
        self._said = ""
        self._reason = ""
        self._rival = ""
        self._pulse = Pulse(name)
        self.attempted = threading.Event()
        self.connects = 0
        self._client = make_client(settings, session)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = lambda _client, _data, mid, reasons, _: subscriptions.subscribed(mid, reasons)
        self._client.on_unsubscribe = lambda _client, _data, mid, *_: subscriptions.unsubscribed(mid)
        self._client.on_received = self._on_received
        self._client.on_confirmed = self._on_confirmed
        # With this set paho only queues; what writes is `_flush` and who reads, both under `_sending`.
        self._client.on_socket_register_write = lambda *_: None
        self.inflow = Inflow(self._client, self._takes, self._have_read, self._write)
        self._thread = threading.Thread(target=self._run, name=f"network-{session.client_id}", daemon=True)

    @property
    def up(self) -> bool:
        """Whether the broker has accepted us and we have subscribed."""
        return self._up

    @property
    def dropped_answers(self) -> int:
        """Answers that were lost while the broker was away."""
        return self._outbox.dropped

    def stuck(self, within_s: float) -> bool:
        """Whether the network thread has died, or shown no life within this time or the longest connecting takes."""
        return self._pulse.late(within_s) or not (self._thread.is_alive() or self._stopping.is_set())

    def start(self) -> None:
        """Start connecting; never fails because the broker is away."""
        self._thread.start()

    def follow(self, timeout_s: float) -> bool:
        """Subscribe to what is wanted now and to nothing else; False if the broker has not confirmed it in time.

        While the broker is away there is nothing to do: everything is asked for at every connect.
        """
        with self._sending:
            if not self._up:
                return False
            self._subscriptions.ask(self._client, v5=self._v5)
            self._flush()
        return self._subscriptions.wait(timeout_s)

    def pause(self) -> None:
        """Take nothing more off the broker; answers still go out."""
        self._paused = True

    def stop(self) -> None:
        """Disconnect in order, so that the will is not sent; the broker keeps the session."""
        with self._sending:
            self._stopping.set()
            if self._up:
                self._up = False
                self._client.disconnect()
                self._flush()
        self.inflow.call()
        self._thread.join(_STOP_S)
        if not self._thread.is_alive():
            self.inflow.close()

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> bool:
        """Publish something that answers no request; False if the connection is down."""
        with self._sending:
            if not self._up:
                return False
            self._publish(Publication(topic, payload, qos, retain, json=True))
            self._flush()
        return True

    def tell(self, request: Request, answer: Answer) -> None:
        """Publish what came of a request of our own, if the broker is there: it is not kept until then."""
        with self._sending:
            if self._up:
                self._publish_answer(request, answer)
                self._flush()

    def publish_in_turn(self, publication: Publication, chain: str) -> str:
        """Publish what a function says; returns why not: that the connection is down, or nothing is confirmed any more.

        Waits where the broker is to confirm first what it has, so that no more is on its way than it takes.
        """
        give_up_s = time.monotonic() + _TURN_S
        while True:
            with self._sending:
                if not self._up:
                    return "the broker is away"
                if not publication.qos or self._has_window():
                    self._publish(publication, chain)
                    self._flush()
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
            elif not self._up or not self._has_window():
                self._outbox.keep(request, until_redelivered=False)
            else:
                self._send(request)
        if self._starved and not self._ledger.overfull():
            self._starved = False
            self.inflow.go_on()

    def send(self) -> None:
        """Let what was replied go out."""
        with self._sending:
            if self._up:
                self._flush()

    def discard(self, request: Request) -> None:
        """One function less needs this message: if nobody does any more, acknowledge it. Any thread may say so."""
        if self.inflow.reads():  # it is called back by paho, and may not take `_sending`
            self._later.append(lambda: self._done_with(request))
            return
        self._done_with(request)
        self.send()

    # --- what goes out -----------------------------------------------------------------------------------------

    def _awaits_redelivery(self, request: Request) -> bool:
        """Whether a request must come again before it can be acknowledged, and may yet do so."""
        if not request.mid:
            return False
        if not self._up:
            return True
        return request.epoch != self._epoch and time.monotonic() < self._up_since_s + _GRACE_S

    def _has_window(self) -> bool:
        """Whether the broker takes one more publication before it has confirmed those it has."""
        return self._published - self._confirmed < self._receive_maximum

    def _send(self, request: Request) -> None:
        assert request.answer is not None
        acknowledged = request.mid and request.epoch == self._epoch
        self._publish_answer(request, request.answer)
        if acknowledged:
            for mid in self._acks.answered(request.mid):
                self._client.acknowledge(mid)
        self._ledger.settle(request)
        if isinstance(request, Firing):
            for cause in request.causes:
                self._done_with(cause)

    def _done_with(self, cause: Request) -> None:
        """What a message has called once less to call is published; after the last, the message is acknowledged."""
        with self._sending:
            cause.firings -= 1
            if not cause.firings:
                self.reply(cause, _SILENCE)

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
            self.inflow.look()

    def _send_kept(self) -> None:
        with self._sending:
            if not self._up:
                return
            if time.monotonic() >= self._up_since_s + _GRACE_S:
                self._outbox.give_up_waiting()
            while self._has_window() and (request := self._outbox.next()) is not None:
                self._send(request)
            self._flush()

    # --- the connection's own thread, and those that attend -------------------------------------------------------

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            self._pulse.beat()
            self._pulse.allow(self._settings.connect_timeout_s + _LOOKUP_S)
            if self._stands_by():
                self._pause(_STANDBY_S)
                continue
            self._attempt()
            lasted_s = self._went_down()
            pause_s = _FIRST_PAUSE_S if lasted_s > _STABLE_S else min(pause_s * 2, self._settings.reconnect_max_s)
            self._pause(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  (so that forty Pis don't come at once)

    def _pause(self, seconds: float) -> None:
        """Wait, and go on showing life; a stop ends it."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0 and not self._stopping.wait(min(left_s, _TICK_S)):
            self._pulse.beat()

    def _stands_by(self) -> bool:
        """Whether another server has taken our place, so that connecting would only throw it out."""
        other = self._handlers.other_instance() if self.connects else ""
        if other and other != self._rival:
            logger.error("another_server_has_our_name", client_id=self._session.client_id, instance=other,
                         advice="give each server a node name of its own")  # fmt: skip
        self._rival = other
        return bool(other)

    def _attempt(self) -> None:
        """Connect once and serve until the connection ends, or say why not."""
        try:
            self._client.reconnect()
            self._serve()
        except (OSError, ValueError) as error:
            self._failed(str(error))
        except Exception as error:
            logger.exception("network_fault", client_id=self._session.client_id)
            self._failed(str(error))
        finally:
            self.attempted.set()

    def _serve(self) -> None:
        """Be there for what comes until the connection ends, and see to what is due by the clock."""
        self.inflow.begin()
        next_tick_s = 0.0
        while self._client.socket() is not None:
            if self.inflow.fault is not None:
                raise self.inflow.fault
            if self._stopping.is_set() and not self._client.want_write():
                return
            self._pulse.beat()
            now_s = time.monotonic()
            if now_s >= next_tick_s:
                next_tick_s = now_s + _TICK_S
                with self.inflow.reading:
                    self._client.loop_misc()
                    self._have_read()
                self.inflow.look()
            if self.inflow.watch(next_tick_s - now_s):
                self._handlers.arrived()

    def _takes(self) -> bool:
        return not (self._paused or self._starved)

    def _have_read(self) -> None:
        """What follows from what was read: what paho's callbacks left for later, and whether more may be taken."""
        while self._later:
            self._later.popleft()()
        if self._outbox:
            self._send_kept()
        # Not while the broker's word is awaited: that it took us, or that it took our answers.
        self._starved = self._up and self._has_window() and self._ledger.overfull()

    def _write(self) -> None:
        if self._client.want_write():
            with self._sending:
                self._client.loop_write()

    def _failed(self, error: str) -> None:
        if error != self._said:  # once, and not at every attempt
            logger.warning("broker_unreachable", client_id=self._session.client_id, host=self._settings.host,
                           port=self._settings.port, error=error)  # fmt: skip
        self._said = error

    def _came_up(self, *, session_present: bool) -> None:
        with self._sending:
            self._up, self._up_since_s = True, time.monotonic()
            self.connects += 1
            self._said = self._reason = self._rival = ""
            self._published += self._client.publish_again(session_present=session_present)
            if not session_present:
                self._outbox.give_up_waiting()
            self._subscriptions.ask(self._client, v5=self._v5)  # what has come to be wanted since `_on_connect`
            self._flush()
        logger.info("connected", client_id=self._session.client_id, host=self._settings.host,
                    port=self._settings.port, session_present=session_present)  # fmt: skip
        self.attempted.set()
        self._handlers.changed()

    def _went_down(self) -> float:
        """Note that the connection is gone; returns for how many seconds it stood."""
        with self._sending:
            was_up, self._up = self._up, False
        self._subscriptions.lost()
        if not was_up:
            return 0.0
        logger.warning("disconnected", client_id=self._session.client_id, reason=self._reason)
        self._handlers.changed()
        return time.monotonic() - self._up_since_s

    # --- what paho calls back, all on the thread that reads but for _on_disconnect ---------------------------------

    def _on_connect(self, client: Client, _data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._failed(f"refused: {reason}")
            return
        session_present = bool(flags.session_present)
        self._receive_maximum = getattr(properties, "ReceiveMaximum", 65_535)
        self._published, self._confirmed, self._confirming = 0, 0, itertools.count(1)  # the broker counts anew too
        self._epoch += 1  # nothing is sent before `_came_up`, but messages may come right behind this
        self._acks.begin_connection()
        self._ledger.resume(session_present=session_present)
        self._subscriptions.renew(
            client, v5=self._v5, session_present=session_present,
            identifies=bool(getattr(properties, "SubscriptionIdentifierAvailable", 1)),
        )  # fmt: skip
        self._later.append(lambda: self._came_up(session_present=session_present))

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._reason = str(reason)

    def _on_confirmed(self) -> None:
        # Several threads come here without a common lock; a count never loses a step as `+= 1` would.
        self._confirmed = next(self._confirming)

    def _on_received(self, message: Received) -> None:
        try:
            request = self._request(message)
            admission, held = self._ledger.admit(request)
            if request.mid:
                self._acks.received(request.mid)
            if admission is Admission.NEW:
                self._handlers.accept(request)
            elif admission is Admission.JOINED:
                self._later.append(lambda: self._joined(held))
            else:
                self._later.append(lambda: self._say_refused(request))
        except Exception:  # one bad message must not end the thread that reads all others
            logger.exception("message_not_accepted")

    def _joined(self, held: Request) -> None:
        with self._sending:
            self._outbox.redelivered(held)

    def _say_refused(self, request: Request) -> None:
        answer = self._handlers.refuse(request)
        with self._sending:
            if self._up:
                self._publish_answer(request, answer)
                self._flush()

    def _request(self, message: Received) -> Request:
        properties, now_s = message.properties, time.monotonic()
        correlation = getattr(properties, "CorrelationData", None)
        expiry_s = getattr(properties, "MessageExpiryInterval", None)
        chain = "" if properties is None else _chain_in(properties)
        return Request(
            topic=message.topic,
            payload=message.payload,
            qos=message.qos,
            mid=message.mid,
            dup=message.dup,
            retain=message.retain,
            epoch=self._epoch,
            received_s=now_s,
            expires_s=None if expiry_s is None else now_s + expiry_s,
            response_topic=getattr(properties, "ResponseTopic", ""),
            correlation=correlation,
            digest=digest_of(message.topic, message.payload, correlation) if message.qos else 0,
            chain=chain,
            identifiers=tuple(getattr(properties, "SubscriptionIdentifier", ())),
        )


def _chain_in(properties: Properties) -> str:
    """The functions that led to a message, if it says so."""
    return next((str(value) for name, value in getattr(properties, "UserProperty", ()) if name == PROPERTY), "")
