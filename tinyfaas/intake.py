"""What is wrong with a call is found before it runs: name, payload, arguments, times, and whether it has run before."""

from __future__ import annotations

import secrets
import threading
import time

from tinyfaas.config import Config
from tinyfaas.delivery import Ledger, digest_of
from tinyfaas.errors import BadRequest, Unavailable
from tinyfaas.loops import Loops
from tinyfaas.model import Invocation, Request
from tinyfaas.protocol import (
    check_arguments,
    check_function,
    check_time,
    glimpse_request_id,
    parse_envelope,
    parse_object,
    take_back_response_topic,
)
from tinyfaas.recorder import Recorder
from tinyfaas.registry import Registry
from tinyfaas.retained import Retained


class Intake:
    """Makes invocations of requests, each with an id of its own."""

    def __init__(
        self, config: Config, registry: Registry, ledger: Ledger, recorder: Recorder, retained: Retained, loops: Loops
    ) -> None:
        self._config = config
        self._registry = registry
        self._ledger = ledger
        self._recorder = recorder
        self._retained = retained
        self._loops = loops
        self._node = config.node.name
        self._id_prefix = secrets.token_hex(4)
        self._id_number = 0
        self._numbering = threading.Lock()

    def reload(self, config: Config) -> None:
        """Go by another configuration from the next request on."""
        self._config = config

    def begin(self, request: Request) -> Invocation:
        """The invocation of a request, from now on."""
        with self._numbering:
            self._id_number += 1
            number = self._id_number
        return Invocation(f"{self._id_prefix}{number:08x}", request, time.monotonic(), time.time())

    def refused(self, request: Request) -> Invocation:
        """The invocation of a request that will not run, whatever it says: its payload may be anything."""
        take_back_response_topic(request, self._config.mqtt.response_prefixes)
        invocation = self.begin(request)
        invocation.request_id = glimpse_request_id(request.payload)
        return invocation

    def check(self, invocation: Invocation, *, stopping: bool) -> bytes | None:
        """Check everything about a call before it runs; returns the worker's payload, or None to ignore it.

        Raises a `Failure`; what is known by then stands in the invocation.
        """
        request = invocation.request
        if request.chain and self._loops.exhausted(request.chain, request.function):
            return None
        forbidden = take_back_response_topic(request, self._config.mqtt.response_prefixes)
        spec = invocation.spec = self._registry.get_spec(request.function)
        largest = (spec.limits if spec else self._config.limits).max_payload_bytes
        if len(request.payload) > largest:
            invocation.request_id = glimpse_request_id(request.payload)
            raise BadRequest(f"the payload has {len(request.payload)} bytes, {largest} are allowed")
        body = parse_object(request.payload)
        envelope = parse_envelope(body)
        invocation.request_id = envelope.request_id
        if envelope.node and envelope.node != self._node:
            if self._config.node.group:  # nobody else has it: silence would lose it
                raise BadRequest('"node" can\'t choose a node here: the broker shares invocations out in a group')
            return None
        if forbidden is not None:
            raise forbidden
        if request.retain and self._was_run(request):
            return None
        check_function(request.function)
        self._loops.check(request.chain, request.function)
        if spec is None:
            self._registry.record(request.function)
        check_arguments(body)
        check_time(request, envelope.deadline_ms, invocation.started_s)
        if stopping:
            raise Unavailable("the server is stopping")
        try:
            invocation.arguments = self._recorder.arguments(body)
        except (ValueError, RecursionError):  # 1e999 is JSON, but no number that a function could get
            raise BadRequest("the arguments hold a number too large, or are nested too deeply") from None
        return request.payload

    def _was_run(self, request: Request) -> bool:
        """Whether a retained message is shown again.

        A broker that speaks 3.1.1 shows at each subscription also what it has delivered before as any other message.
        """
        digest = digest_of(request.topic, request.payload, None)
        if self._retained.was_run(request.topic, digest):
            return True
        return self._config.mqtt.protocol != "5" and self._ledger.has_twin(request, digest)
