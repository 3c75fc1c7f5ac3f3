"""What travels on which connection: invocations on one, administration and presence on another.

A flood of invocations fills only its own connection, so `list` and `status` are answered all the same.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from tinyfaas import log
from tinyfaas.config import Config, Queue
from tinyfaas.delivery import Ledger
from tinyfaas.errors import Failure, Overloaded
from tinyfaas.gateway.client import Session
from tinyfaas.gateway.connection import Connection, Handlers
from tinyfaas.gateway.inflow import Inflow
from tinyfaas.gateway.presence import Presence
from tinyfaas.gateway.subscriptions import Subscriptions
from tinyfaas.inlet import Inlet
from tinyfaas.model import Answer, Publication, Request
from tinyfaas.protocol import Topics
from tinyfaas.registry import Registry
from tinyfaas.triggers import Triggers

logger = log.get("gateway")

# Administration is for people and playbooks: a few commands at a time, uploads among them.
_ADMIN_BOUNDS = Queue(max_requests=200, max_bytes=67_108_864)
_CONFIRMED_S = 5.0  # how long a change of subscriptions is waited for


class _Attending:
    """The inlet of threads that read from a connection while they have nothing else to do."""

    def __init__(self, inflow: Callable[[], Inflow]) -> None:
        self._inflow = inflow

    def wait(self, timeout_s: float) -> None:
        """Wait for a message, and take it in."""
        self._inflow().attend(timeout_s)

    def wake(self) -> None:
        """Wake one that waits."""
        self._inflow().ring()

    def read_on(self) -> None:
        """Take in what has come meanwhile."""
        self._inflow().read_on()

    def look_on(self) -> None:
        """Let others do so."""
        self._inflow().look_on()


class Gateway:
    """Both connections, and the node's presence. `keys` holds the keys that online and offline share.

    What is subscribed to follows the functions: their triggers, and in a group their invocations too. It is that of
    those in `registry` at the start, and from then on follows what is taken up and let go.
    """

    def __init__(
        self, config: Config, topics: Topics, ledger: Ledger, keys: dict[str, Any], registry: Registry,
        triggers: Triggers,
    ) -> None:  # fmt: skip
        self._config = config
        self._group = config.node.group
        self._registry = registry
        self._triggers = triggers
        self._gone: set[str] = set()
        self._following = threading.Lock()
        self._subscriptions = Subscriptions(config.data_dir / "subscriptions.json", triggers.everyone_is_new)
        self._topics = topics
        self._ledger = ledger
        self._presence = Presence(config.mqtt, topics.node(config.node.name), keys, self._group)
        self._announced: tuple[int, bool, list[str]] | None = None
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def open(
        self,
        invoke: Callable[[Request], None],
        arrived: Callable[[], object],
        refuse: Callable[[Request, Failure], Answer],
        recall: Callable[[Request], Answer | None],
        command: Callable[[Request], None],
    ) -> None:
        """Make the connections and say who gets what arrives; nothing is connected yet. Raises `ConfigError`."""
        client_id = self._config.mqtt.client_id or f"tinyfaas-{self._config.node.name}"
        overloaded = Overloaded("the server holds as many requests as it may")
        window = min(65_535, self._config.queue.max_requests)
        self.invocations = self._connection(
            "invocations",
            Session(client_id, receive_maximum=window),
            self._subscriptions,
            self._ledger,
            invoke,
            arrived,
            lambda request: refuse(request, overloaded),
            recall,
        )
        will = (self._presence.topic, self._presence.payload("offline"))
        commands = Subscriptions()
        commands.want([f"{self._topics.admin_prefix}#"])
        self.administration = self._connection(
            "administration",
            Session(f"{client_id}-admin", will=will, receive_maximum=100),
            commands,
            Ledger(_ADMIN_BOUNDS),
            command,
            lambda: None,
            lambda _: Answer("", b""),
            lambda _: None,
        )

    def _connection(
        self,
        name: str,
        session: Session,
        subscriptions: Subscriptions,
        ledger: Ledger,
        accept: Callable[[Request], None],
        arrived: Callable[[], object],
        refuse: Callable[[Request], Answer],
        recall: Callable[[Request], Answer | None],
    ) -> Connection:
        handlers = Handlers(accept, arrived, refuse, recall, self.wake, self._presence.other_instance)
        return Connection(name, self._config.mqtt, session, subscriptions, self._topics.error, ledger, handlers)

    def start(self) -> None:
        """Start connecting both."""
        everything = [f"{self._topics.invoke_prefix}#"]
        self._subscriptions.load(otherwise=everything)
        self._subscriptions.want(self._shares(self._registry.names()) if self._group else everything)
        self._follow_triggers()
        self.invocations.start()
        self.administration.start()

    def take_up(self, function: str) -> None:
        """Take what triggers this function now, and in a group its invocations too; or nothing, if it has gone.

        Returns when the broker gives it to us, if it is there.
        """
        self._gone.discard(function)
        changed = self._follow_triggers()
        if self._group and function in self._registry:
            self._subscriptions.want(self._shares([function]))
            changed = True
        if changed:
            self.invocations.follow(_CONFIRMED_S)
            self._subscriptions.keep()
            self.wake()

    def let_go(self, functions: Collection[str]) -> bool:
        """In a group: take no more of what these functions are called by; what the broker has given us already is ours.

        False where there is nothing to wait for, because nothing has changed.
        """
        if not self._group or not functions:
            return False
        self._gone.update(functions)
        self._follow_triggers()
        self._subscriptions.want_no_more(self._shares(functions))
        self.wake()
        confirmed = self.invocations.follow(_CONFIRMED_S)
        self._subscriptions.keep()
        return confirmed

    def _follow_triggers(self) -> bool:
        """Want the triggers of the functions there are now; False if that changes nothing.

        What is subscribed to no more may still come: it then calls those whose triggers it matches now.
        """
        with self._following:
            unheeded = self._triggers.follow(spec for spec in self._registry.specs() if spec.name not in self._gone)
            for function, topic in unheeded:
                logger.error("trigger_unheeded", function=function, topic=topic)
            return self._subscriptions.wish(self._triggers.wishes(), self._triggers.anew)

    def leave_to_others(self) -> list[str]:
        """In a group: take no more of what other nodes of it serve too; returns these functions.

        What nobody else serves stays ours, and waits in our session until we are back: without a subscription the
        broker would give it to nobody.
        """
        if not self._group or not self.up:
            return []
        left = sorted(self._served() & self._presence.served_by_others())
        if not self.let_go(left):
            return []
        logger.info("left_to_group", functions=left, group=self._group)
        return left

    def _shares(self, functions: Iterable[str]) -> list[str]:
        return [self._topics.share(self._group, function) for function in functions]

    def _served(self) -> frozenset[str]:
        """The functions whose invocations we share in."""
        if not self._group:
            return frozenset()
        share = self._topics.share(self._group, "")
        return frozenset(topic.removeprefix(share) for topic in self._subscriptions.wanted if topic.startswith(share))

    def inlet(self) -> Inlet:
        """Where threads that run invocations wait for more: they read themselves what the broker sends."""
        return _Attending(lambda: self.invocations.inflow)

    def wait_attempted(self, timeout_s: float) -> None:
        """Wait until each has connected or failed to once."""
        deadline_s = time.monotonic() + timeout_s
        for connection in (self.invocations, self.administration):
            connection.attempted.wait(max(0.0, deadline_s - time.monotonic()))

    @property
    def up(self) -> bool:
        """Whether both connections stand."""
        return self.invocations.up and self.administration.up

    def reply_invocation(self, request: Request, answer: Answer | None) -> None:
        """Answer an invocation on the connection it came by, with the next `send_answers`.

        What a schedule has asked for no broker awaits.
        """
        if request.schedule:
            if answer is not None:
                self.invocations.tell(request, answer)
            request.answer = answer
            self._ledger.settle(request)
            return
        self.invocations.reply(request, answer)

    def send_answers(self) -> None:
        """Let the answers to invocations go out."""
        self.invocations.send()

    def discard(self, request: Request) -> None:
        """One function less needs this message."""
        self.invocations.discard(request)

    def reply_command(self, request: Request, answer: Answer | None) -> None:
        """Answer an administrative command on the connection it came by."""
        self.administration.reply(request, answer)
        self.administration.send()

    def stuck(self, within_s: float) -> list[str]:
        """Connections whose thread has died, or has shown no life within this time."""
        named = {"invocations": self.invocations, "administration": self.administration}
        return [name for name, connection in named.items() if connection.stuck(within_s)]

    def wait_changed(self, timeout_s: float) -> None:
        """Wait until a connection has come up or gone down, or somebody wakes whoever waits here."""
        with contextlib.suppress(queue.Empty):
            self._woken.get(timeout=timeout_s)

    def wake(self) -> None:
        """Wake who waits for a change. A signal handler may call this; an `Event`'s lock could be its own thread's."""
        self._woken.put(None)

    def announce(self) -> None:
        """Publish the presence if it is not what was published on this connection."""
        up = self.invocations.up
        wanted = (self.administration.connects, up, sorted(self._served()))
        if self.administration.up and self._announced != wanted and self._say("online" if up else "offline"):
            self._announced = wanted

    def event(self, topic: str, payload: bytes) -> None:
        """Publish an event; nobody waits for those."""
        self.administration.publish(topic, payload)

    def publish_letter(self, topic: str, payload: bytes) -> None:
        """Publish a dead letter; it is on disk too, so one that finds no connection is not lost."""
        self.invocations.publish(topic, payload, qos=1)

    def publish(self, publication: Publication, chain: str) -> str:
        """Publish what a function says, before its answer on the same connection; returns why not, or nothing."""
        return self.invocations.publish_in_turn(publication, chain)

    def pause(self) -> None:
        """Take nothing more off the broker."""
        self.invocations.pause()
        self.administration.pause()

    def stop(self) -> None:
        """Say that the node is offline and disconnect both."""
        self._say("offline")
        self.invocations.stop()
        self.administration.stop()
        self._subscriptions.keep()

    def status(self) -> dict[str, Any]:
        """The connections, for the `status` command."""
        mqtt = self._config.mqtt
        return {
            "host": mqtt.host,
            "port": mqtt.port,
            "connected": self.up,
            "connects": self.invocations.connects,
            "redelivered": self._ledger.redelivered,
            "dropped_answers": self.invocations.dropped_answers,
            **({"group": self._group, "shares": len(self._served())} if self._group else {}),
        }

    def _say(self, state: str) -> bool:
        payload = self._presence.payload(state, self._served() if state == "online" else frozenset())
        return self.administration.publish(self._presence.topic, payload, qos=1, retain=True)
