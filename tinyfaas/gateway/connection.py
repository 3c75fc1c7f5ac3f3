"""One connection to the broker: connect for ever, subscribe, receive; what goes out, goes out by `outflow`.

Each connection has a thread of its own, which connects and is always there to read. Any other thread that has nothing
else to do may read by `inflow` as well: a request is then run by the thread that read it. To wake another thread costs
more than to read or to write.

Three locks meet here. That of `inflow` is held by the one that reads. That of `outflow` guards what goes out and
whether the connection is up; it may be taken under that of `inflow`, and never the other way round. paho holds a lock
of its own while it calls back; so no callback takes that of `outflow`, and what a callback wants sent, who reads sends
later.
"""

from __future__ import annotations

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
from tinyfaas.gateway.client import Received, Session, make_client
from tinyfaas.gateway.inflow import Inflow
from tinyfaas.gateway.outflow import Outflow
from tinyfaas.gateway.subscriptions import Subscriptions
from tinyfaas.loops import PROPERTY
from tinyfaas.model import Answer, Publication, Request
from tinyfaas.pulse import Pulse

logger = log.get("gateway")

_TICK_S = 1.0
_FIRST_PAUSE_S = 0.5
_STABLE_S = 10.0  # a connection that lasted this long was a good one: the next attempt comes soon
_STANDBY_S = 15.0  # how often a server whose name another one has looks whether that is still so
_LOOKUP_S = 60.0  # to find the broker's address: a resolver asks each of its servers, and asks again
_STOP_S = 2.0


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
        self._ledger = ledger
        self._handlers = handlers
        self._v5 = settings.protocol == "5"
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
        # With this set paho only queues; what writes is `outflow`, under its lock.
        self._client.on_socket_register_write = lambda *_: None
        self._outflow = Outflow(self._client, settings, error_topic, ledger, handlers.recall, self._look)
        self._client.on_confirmed = self._outflow.confirmed
        self.inflow = Inflow(self._client, self._takes, self._have_read, self._outflow.write)
        self._thread = threading.Thread(target=self._run, name=f"network-{session.client_id}", daemon=True)

    @property
    def up(self) -> bool:
        """Whether the broker has accepted us and we have subscribed."""
        return self._outflow.up

    @property
    def dropped_answers(self) -> int:
        """Answers that were lost while the broker was away."""
        return self._outflow.dropped_answers

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
        return self._ask() and self._subscriptions.wait(timeout_s)

    def pause(self) -> None:
        """Take nothing more off the broker; answers still go out."""
        self._paused = True

    def stop(self) -> None:
        """Disconnect in order, so that the will is not sent; the broker keeps the session."""
        self._outflow.hang_up()
        self._stopping.set()
        self.inflow.call()
        self._thread.join(_STOP_S)
        if not self._thread.is_alive():
            self.inflow.close()

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> bool:
        """Publish something that answers no request; False if the connection is down."""
        return self._outflow.publish(Publication(topic, payload, qos, retain, json=True))

    def tell(self, request: Request, answer: Answer) -> None:
        """Publish what came of a request of our own, if the broker is there: it is not kept until then."""
        self._outflow.tell(request, answer)

    def publish_in_turn(self, publication: Publication, chain: str) -> str:
        """Publish what a function says; returns why not: that the connection is down, or nothing is confirmed any more.

        Waits where the broker is to confirm first what it has, so that no more is on its way than it takes.
        """
        return self._outflow.publish_in_turn(publication, chain)

    def reply(self, request: Request, answer: Answer | None) -> None:
        """Publish an answer, then acknowledge its request. Without one the request is left to the broker.

        Both go out with the next `send`. What can't be sent now is kept and sent after the reconnect.
        """
        self._outflow.reply(request, answer)
        self._feed()

    def send(self) -> None:
        """Let what was replied go out."""
        self._outflow.send()

    def discard(self, request: Request) -> None:
        """One function less needs this message: if nobody does any more, acknowledge it. Any thread may say so."""
        if self.inflow.reads():  # it is called back by paho, and may not take the lock of `outflow`
            self._later.append(lambda: self._outflow.done_with(request))
            return
        self._outflow.done_with(request)
        self._outflow.send()
        self._feed()

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

    def _ask(self) -> bool:
        return self._outflow.say(lambda: self._subscriptions.ask(self._client, v5=self._v5))

    def _look(self) -> None:
        self.inflow.look()

    def _takes(self) -> bool:
        return not (self._paused or self._starved)

    def _have_read(self) -> None:
        """What follows from what was read: what paho's callbacks left for later, and whether more may be taken."""
        while self._later:
            self._later.popleft()()
        self._outflow.send_kept()
        # Not while the broker's word is awaited: that it took us, or that it took our answers.
        self._starved = self._outflow.up and self._outflow.has_window() and self._ledger.overfull()

    def _feed(self) -> None:
        """Read on, if that was left off and there is room again."""
        if self._starved and not self._ledger.overfull():
            self._starved = False
            self.inflow.go_on()

    def _failed(self, error: str) -> None:
        if error != self._said:  # once, and not at every attempt
            logger.warning("broker_unreachable", client_id=self._session.client_id, host=self._settings.host,
                           port=self._settings.port, error=error)  # fmt: skip
        self._said = error

    def _came_up(self, *, session_present: bool) -> None:
        self.connects += 1
        self._said = self._reason = self._rival = ""
        self._outflow.came_up(session_present=session_present)
        self._ask()  # what has come to be wanted since `_on_connect`
        logger.info("connected", client_id=self._session.client_id, host=self._settings.host,
                    port=self._settings.port, session_present=session_present)  # fmt: skip
        self.attempted.set()
        self._handlers.changed()

    def _went_down(self) -> float:
        """Note that the connection is gone; returns for how many seconds it stood."""
        was_up = self._outflow.went_down()
        self._subscriptions.lost()
        if not was_up:
            return 0.0
        logger.warning("disconnected", client_id=self._session.client_id, reason=self._reason)
        self._handlers.changed()
        return time.monotonic() - self._outflow.up_since_s

    # --- what paho calls back, all on the thread that reads but for _on_disconnect ---------------------------------

    def _on_connect(self, client: Client, _data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._failed(f"refused: {reason}")
            return
        session_present = bool(flags.session_present)
        self._outflow.begin(getattr(properties, "ReceiveMaximum", 65_535))
        self._ledger.resume(session_present=session_present)
        self._subscriptions.renew(
            client, v5=self._v5, session_present=session_present,
            identifies=bool(getattr(properties, "SubscriptionIdentifierAvailable", 1)),
        )  # fmt: skip
        self._later.append(lambda: self._came_up(session_present=session_present))

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._reason = str(reason)

    def _on_received(self, message: Received) -> None:
        try:
            request = self._request(message)
            admission, held = self._ledger.admit(request)
            self._outflow.received(request)
            if admission is Admission.NEW:
                self._handlers.accept(request)
            elif admission is Admission.JOINED:
                self._later.append(lambda: self._outflow.redelivered(held))
            else:
                self._later.append(lambda: self._say_refused(request))
        except Exception:  # one bad message must not end the thread that reads all others
            logger.exception("message_not_accepted")

    def _say_refused(self, request: Request) -> None:
        self._outflow.tell(request, self._handlers.refuse(request))

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
            epoch=self._outflow.epoch,
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
