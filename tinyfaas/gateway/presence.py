"""Whether a node is there: what it says of itself, retained, and what it finds another server saying."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from typing import Any

from paho.mqtt.client import Client

from tinyfaas.config import Mqtt
from tinyfaas.gateway.client import Received, Session, make_client
from tinyfaas.protocol import encode

_ANSWER_S = 2.0


class Presence:
    """The retained message of one node. `keys` are what online and offline share, `instance` among them."""

    def __init__(self, settings: Mqtt, topic: str, keys: dict[str, Any]) -> None:
        self._settings = settings
        self._keys = keys
        self.topic = topic

    def payload(self, state: str) -> bytes:
        """What is published: `state` is online or offline."""
        return encode({"state": state, **self._keys})

    def other_instance(self) -> str:
        """The instance of another server that is online under our node's name; empty if there is none.

        Asked on a connection of its own, before a connection that the broker ended is made again: two servers with
        one client id would otherwise throw each other out for ever.
        """
        heard = threading.Event()
        said: dict[str, Any] = {}

        def listen(message: Received) -> None:
            with contextlib.suppress(ValueError, TypeError):
                said.update(json.loads(message.payload))
            heard.set()

        def subscribe(client: Client, *_: Any) -> None:
            client.subscribe(self.topic)

        def ask_next(client: Client, *_: Any) -> None:
            client.unsubscribe(self.topic)

        # What is retained comes before the answer to whatever we ask next. A broker that was killed may retain nothing,
        # and as long as we are not subscribed it loses requests: no time may be spent on waiting for what won't come.
        client = make_client(self._settings, Session(f"tinyfaas-probe-{secrets.token_hex(6)}", lasting=False))
        client.on_connect = subscribe
        client.on_subscribe = ask_next
        client.on_unsubscribe = lambda *_: heard.set()
        client.on_received = listen
        try:
            client.reconnect()
        except OSError:
            return ""
        client.loop_start()
        heard.wait(_ANSWER_S)
        client.disconnect()
        client.loop_stop()
        other = str(said.get("instance", ""))
        return other if said.get("state") == "online" and other != self._keys["instance"] else ""
