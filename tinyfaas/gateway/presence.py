"""Whether a node is there: what it says of itself, retained, and what it finds another server saying."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Iterable
from typing import Any

from paho.mqtt.client import Client

from tinyfaas.config import Mqtt
from tinyfaas.gateway.client import Received, Session, make_client
from tinyfaas.protocol import encode

_ANSWER_S = 2.0


class Presence:
    """The retained message of one node. `keys` are what online and offline share, `instance` and `node` among them."""

    def __init__(self, settings: Mqtt, topic: str, keys: dict[str, Any], group: str = "") -> None:
        self._settings = settings
        self._keys = {**keys, **({"group": group} if group else {})}
        self._group = group
        self.topic = topic

    def payload(self, state: str, functions: Iterable[str] = ()) -> bytes:
        """What is published: `state` is online or offline; `functions` are those we serve with others of our group."""
        shared = {"functions": sorted(functions)} if self._group else {}
        return encode({"state": state, **self._keys, **shared})

    def other_instance(self) -> str:
        """The instance of another server that is online under our node's name; empty if there is none.

        Asked before a connection that the broker ended is made again: two servers with one client id would otherwise
        throw each other out for ever.
        """
        for said in self._heard_on(self.topic):
            if said.get("state") == "online" and said.get("instance") != self._keys["instance"]:
                return str(said.get("instance", ""))
        return ""

    def served_by_others(self) -> frozenset[str]:
        """The functions that other nodes of our group serve now.

        It says first that we are offline: of two that stop at the same time, at most one counts on the other.
        """
        served: set[str] = set()
        everyone = f"{self.topic.rpartition('/')[0]}/+"
        for said in self._heard_on(everyone, saying=self.payload("offline")):
            functions = said.get("functions")
            in_group = said.get("group") == self._group and said.get("node") != self._keys["node"]
            if in_group and said.get("state") == "online" and isinstance(functions, list):
                served.update(str(function) for function in functions)
        return frozenset(served)

    def _heard_on(self, topics: str, *, saying: bytes = b"") -> list[dict[str, Any]]:
        """What is retained on these topics, asked on a connection of its own; `saying` is published as ours before."""
        everything_came = threading.Event()
        heard: list[dict[str, Any]] = []

        def listen(message: Received) -> None:
            with contextlib.suppress(ValueError, TypeError):
                heard.append(dict(json.loads(message.payload)))

        def subscribe(client: Client, *_: Any) -> None:
            if saying:
                client.publish(self.topic, saying, qos=1, retain=True)
            client.subscribe(topics)

        def ask_next(client: Client, *_: Any) -> None:
            client.unsubscribe(topics)

        # What is retained comes before the answer to whatever we ask next. A broker that was killed may retain nothing,
        # and as long as we are not subscribed it loses requests: no time may be spent on waiting for what won't come.
        client = make_client(self._settings, Session(f"tinyfaas-probe-{secrets.token_hex(6)}", lasting=False))
        client.on_connect = subscribe
        client.on_subscribe = ask_next
        client.on_unsubscribe = lambda *_: everything_came.set()
        client.on_received = listen
        try:
            client.reconnect()
        except OSError:
            return []
        client.loop_start()
        everything_came.wait(_ANSWER_S)
        client.disconnect()
        client.loop_stop()
        return heard
