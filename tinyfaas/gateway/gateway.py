"""What travels on which connection: invocations on one, administration and presence on another.

A flood of invocations fills only its own connection, so `list` and `status` are answered all the same.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from typing import Any

from tinyfaas.config import Config, Queue
from tinyfaas.delivery import Ledger
from tinyfaas.errors import Failure, Overloaded
from tinyfaas.gateway.client import Session
from tinyfaas.gateway.connection import Connection, Handlers
from tinyfaas.gateway.presence import Presence
from tinyfaas.model import Answer, Request
from tinyfaas.protocol import Topics

# Administration is for people and playbooks: a few commands at a time, uploads among them.
_ADMIN_BOUNDS = Queue(max_requests=200, max_bytes=67_108_864)


class Gateway:
    """Both connections, and the node's presence. `keys` holds the keys that online and offline share."""

    def __init__(self, config: Config, topics: Topics, ledger: Ledger, keys: dict[str, Any]) -> None:
        self._config = config
        self._topics = topics
        self._ledger = ledger
        self._presence = Presence(config.mqtt, topics.node(config.node.name), keys)
        self._announced: tuple[int, bool] | None = None
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def open(
        self,
        invoke: Callable[[Request], None],
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
            Session(client_id, (f"{self._topics.invoke_prefix}#",), receive_maximum=window),
            self._ledger,
            invoke,
            lambda request: refuse(request, overloaded),
            recall,
        )
        will = (self._presence.topic, self._presence.payload("offline"))
        self.administration = self._connection(
            "administration",
            Session(f"{client_id}-admin", (f"{self._topics.admin_prefix}#",), will=will, receive_maximum=100),
            Ledger(_ADMIN_BOUNDS),
            command,
            lambda _: Answer("", b""),
            lambda _: None,
        )

    def _connection(
        self,
        name: str,
        session: Session,
        ledger: Ledger,
        accept: Callable[[Request], None],
        refuse: Callable[[Request], Answer],
        recall: Callable[[Request], Answer | None],
    ) -> Connection:
        handlers = Handlers(accept, refuse, recall, self.wake, self._presence.other_instance)
        return Connection(name, self._config.mqtt, session, self._topics.error, ledger, handlers)

    def start(self) -> None:
        """Start connecting both."""
        self.invocations.start()
        self.administration.start()

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
        """Answer an invocation on the connection it came by."""
        self.invocations.reply(request, answer)

    def reply_command(self, request: Request, answer: Answer | None) -> None:
        """Answer an administrative command on the connection it came by."""
        self.administration.reply(request, answer)

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
        wanted = (self.administration.connects, up)
        if self.administration.up and self._announced != wanted and self._say("online" if up else "offline"):
            self._announced = wanted

    def event(self, topic: str, payload: bytes) -> None:
        """Publish an event; nobody waits for those."""
        self.administration.publish(topic, payload)

    def publish_letter(self, topic: str, payload: bytes) -> None:
        """Publish a dead letter; it is on disk too, so one that finds no connection is not lost."""
        self.invocations.publish(topic, payload, qos=1)

    def pause(self) -> None:
        """Take nothing more off the broker."""
        self.invocations.pause()
        self.administration.pause()

    def stop(self) -> None:
        """Say that the node is offline and disconnect both."""
        self._say("offline")
        self.invocations.stop()
        self.administration.stop()

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
        }

    def _say(self, state: str) -> bool:
        return self.administration.publish(self._presence.topic, self._presence.payload(state), qos=1, retain=True)
