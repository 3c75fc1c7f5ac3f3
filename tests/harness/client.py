"""Whoever speaks to the server over MQTT: asks, and sees everything that is published."""

from __future__ import annotations

import base64
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import dedent
from types import TracebackType
from typing import Any, ClassVar

from paho.mqtt.client import Client as Paho
from paho.mqtt.client import MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.harness.contract import Watch
from tests.harness.waiting import PATIENCE_S

_number = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Message:
    """Something that was published."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    content_type: str = ""
    correlation: bytes | None = None
    came_s: float = 0.0
    properties: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> dict[str, Any]:
        """Its payload as an object; empty for anything else."""
        try:
            parsed = json.loads(self.payload)
        except (ValueError, RecursionError):
            return {}
        return parsed if isinstance(parsed, dict) else {}


class Client:
    """Connected and subscribed once made, again after the broker was away; `seen` grows with all that comes.

    For a `lasting` one the broker keeps what it misses while it is away. `account` is a name and its password. With
    `keeps` off, `seen` stays empty. In tests `watch` is told of all that any client hears or publishes.
    """

    watch: ClassVar[Watch | None] = None

    def __init__(
        self, port: int, *, v5: bool = True, topics: tuple[str, ...] = ("faas/#", "reply/#"), lasting: bool = False,
        account: tuple[str, str] | None = None, keeps: bool = True,
    ) -> None:  # fmt: skip
        self.seen: list[Message] = []
        self.confirmed: set[int] = set()
        self._v5 = v5
        self._topics = topics
        self._keeps = keeps
        self._came = threading.Condition()
        self._subscribed = threading.Event()
        self._paho = Paho(
            CallbackAPIVersion.VERSION2,
            client_id=new_label("client"),
            clean_session=None if v5 else not lasting,
            protocol=MQTTv5 if v5 else MQTTv311,
        )
        if account:
            self._paho.username_pw_set(*account)
        self._paho.max_inflight_messages = 65_535
        self._paho.reconnect_delay_set(1, 1)
        self._paho.on_socket_open = _without_delay
        self._paho.on_connect = self._on_connect
        self._paho.on_subscribe = lambda *_: self._subscribed.set()
        self._paho.on_disconnect = lambda *_: self._subscribed.clear()
        self._paho.on_message = self._on_message
        self._paho.on_publish = lambda _client, _data, mid, *_: self.confirmed.add(mid)
        if v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 3600 if lasting else 0
            self._paho.connect("127.0.0.1", port, clean_start=not lasting, properties=properties)
        else:
            self._paho.connect("127.0.0.1", port)
        self._paho.loop_start()
        self.wait_connected()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._paho.disconnect()
        self._paho.loop_stop()
        # Without what it calls back it is in no circle, and closes its sockets itself before anyone finds them open.
        for event in ("connect", "subscribe", "disconnect", "message", "publish", "socket_open"):
            setattr(self._paho, f"on_{event}", None)

    def wait_connected(self) -> None:
        """Wait until it is connected and hears everything."""
        assert self._subscribed.wait(PATIENCE_S), "no connection to the broker"

    # --- asking --------------------------------------------------------------------------------------------------

    def publish(self, topic: str, payload: bytes | str | Mapping[str, Any] = b"", *, qos: int = 1, retain: bool = False,
                wait: bool = False, **properties: Any) -> int:  # fmt: skip
        """Publish as it is; an object becomes JSON. `properties` are those of MQTT 5 by paho's names.

        Returns its packet id, which comes into `confirmed` when the broker has acknowledged it.
        """
        data = json.dumps(payload) if isinstance(payload, Mapping) else payload
        if self.watch:
            self.watch.note_own(topic, data)
        given = None
        if properties:
            given = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            for name, value in properties.items():
                setattr(given, name, value)
        sent = self._paho.publish(topic, data, qos, retain, given)
        if wait:
            sent.wait_for_publish(PATIENCE_S)
        return sent.mid

    def ask(self, topic: str, payload: Mapping[str, Any] | None = None, *, qos: int = 1,
            timeout_s: float = PATIENCE_S, **properties: Any) -> Message:  # fmt: skip
        """Publish a request and wait for the first answer with its `request_id` (made up if there is none)."""
        body = {"request_id": new_label("request"), **(payload or {})}
        start = len(self.seen)
        self.publish(topic, body, qos=qos, **properties)
        return self.answer_to(str(body["request_id"]), start, timeout_s)

    def request(self, topic: str, payload: Mapping[str, Any] | None = None, *, qos: int = 1,
                timeout_s: float = PATIENCE_S, **properties: Any) -> dict[str, Any]:  # fmt: skip
        """The answer to a request, as an object."""
        return self.ask(topic, payload, qos=qos, timeout_s=timeout_s, **properties).body

    def answer_to(self, request_id: str, start: int = 0, timeout_s: float = PATIENCE_S) -> Message:
        """The first answer with this `request_id`."""
        return self.wait(
            lambda message: is_answer(message) and message.body.get("request_id") == request_id,
            f"an answer to {request_id}", start, timeout_s,
        )  # fmt: skip

    def invoke(self, function: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call a function; returns the answer, whatever it says."""
        return self.request(f"faas/invoke/{function}", {"args": args, **({"kwargs": kwargs} if kwargs else {})})

    def call(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """Call a function that must succeed; returns its result."""
        answer = self.invoke(function, *args, **kwargs)
        assert answer["status"] == "success", answer
        return answer["result"]

    def upload(self, function: str, code: str, requirements: str = "", config: Mapping[str, Any] | None = None,
               **more: Any) -> dict[str, Any]:  # fmt: skip
        """Upload a function; returns the answer, whatever it says."""
        return self.request(
            f"faas/admin/upload/{function}", {**upload_body(code, requirements, config), **more}, timeout_s=90.0
        )

    def deploy(self, function: str, code: str, requirements: str = "", config: Mapping[str, Any] | None = None) -> int:
        """Upload a function that must be accepted; returns its version."""
        answer = self.upload(function, code, requirements, config)
        assert answer["status"] == "ok", answer
        return int(answer["version"])

    # --- seeing --------------------------------------------------------------------------------------------------

    def wait(
        self, wanted: Callable[[Message], bool], what: str, start: int = 0, timeout_s: float = PATIENCE_S
    ) -> Message:
        """The first message since `seen[start]` that is wanted, as soon as it has come."""
        deadline_s, at = time.monotonic() + timeout_s, start
        with self._came:
            while True:
                for message in self.seen[at:]:
                    if wanted(message):
                        return message
                at = len(self.seen)
                if not self._came.wait(max(0.0, deadline_s - time.monotonic())):
                    last = "\n".join(f"  {each.topic} {each.payload[:300]!r}" for each in self.seen[-10:])
                    raise AssertionError(f"waited {timeout_s:g} s in vain for {what}; the last that came:\n{last}")

    def wait_topic(self, topic: str, start: int = 0, **keys: Any) -> Message:
        """The first message on a topic whose body has these keys."""
        return self.wait(
            lambda message: message.topic == topic and keys.items() <= message.body.items(), f"{topic} {keys}", start
        )

    def answers(self, request_id: str) -> list[Message]:
        """All answers to a request that have come so far."""
        return [each for each in list(self.seen) if is_answer(each) and each.body.get("request_id") == request_id]

    def settle(self) -> None:
        """Wait until everything that the broker has sent so far is seen: a message to oneself comes after it."""
        topic, start = f"faas/marker/{new_label('marker')}", len(self.seen)
        self.publish(topic, qos=0)
        self.wait(lambda message: message.topic == topic, "the marker", start)

    def _on_connect(self, client: Paho, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        assert not reason.is_failure, reason
        if self._v5:
            client.subscribe([(topic, SubscribeOptions(qos=1, retainAsPublished=False)) for topic in self._topics])
        else:
            client.subscribe([(topic, 1) for topic in self._topics])

    def _on_message(self, _client: Paho, _data: Any, message: MQTTMessage) -> None:
        properties = message.properties
        seen = Message(
            message.topic, bytes(message.payload), message.qos, message.retain,
            getattr(properties, "ContentType", ""), getattr(properties, "CorrelationData", None), time.monotonic(),
            tuple(getattr(properties, "UserProperty", ())),
        )  # fmt: skip
        if self.watch:
            self.watch.hear(seen)
        with self._came:
            if self._keeps:
                self.seen.append(seen)
            self._came.notify_all()


def is_answer(message: Message) -> bool:
    """Whether it stands on a topic for answers."""
    return message.topic.startswith(("faas/response/", "reply/"))


def new_label(kind: str) -> str:
    """A name that nobody else has."""
    return f"{kind}-{os.getpid()}-{next(_number)}"


def upload_body(code: str | bytes, requirements: str = "", config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The payload of an upload; code may be indented."""
    data = code if isinstance(code, bytes) else dedent(code).encode()
    body: dict[str, Any] = {"code_b64": base64.b64encode(data).decode()}
    if requirements:
        body["req_b64"] = base64.b64encode(dedent(requirements).encode()).decode()
    if config is not None:
        body["config"] = dict(config)
    return body


def wait_presence(
    port: int, node: str, state: str, *, other_than: str = "", v5: bool = True, login: tuple[str, str] | None = None
) -> dict[str, Any]:
    """A node's retained presence, as soon as it says `state` and is not that of instance `other_than`."""
    with Client(port, v5=v5, topics=(f"faas/node/{node}",), account=login) as client:
        return client.wait(
            lambda message: message.body.get("state") == state and message.body.get("instance") != other_than,
            f"{node} to be {state}",
        ).body


def _without_delay(_client: Paho, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
