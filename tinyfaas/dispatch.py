"""From a request to its one outcome: a queue per function, and threads that take turns among them.

The only hand-over between threads is the queue; after it everything is a call that returns, so one traceback shows
the way of an invocation.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tinyfaas import log
from tinyfaas.config import Config
from tinyfaas.delivery import Ledger
from tinyfaas.errors import BadRequest, Expired, Failure, Forbidden, Internal, Unavailable
from tinyfaas.fairqueue import FairQueue
from tinyfaas.history import History
from tinyfaas.model import FUNCTION_NAME, Answer, FunctionSpec, Request, Result
from tinyfaas.pool import Pool
from tinyfaas.protocol import (
    Topics,
    check_arguments,
    check_function,
    encode,
    error_keys,
    glimpse_request_id,
    iso_time,
    parse_envelope,
    parse_object,
)
from tinyfaas.registry import Registry

logger = log.get("dispatch")

Reply = Callable[[Request, Answer | None], None]
_STUCK_SLACK_S = 10.0
_SILENCE = Answer("", b"")


@dataclass(slots=True)
class Run:
    """One invocation on its way: what is known of it when its answer is written."""

    id: str
    request: Request
    started_s: float
    started_wall_s: float
    request_id: str = ""
    spec: FunctionSpec | None = None
    arguments: bytes = b""


class Dispatcher:
    """Runs requests on a bounded number of threads; `reply` publishes an answer and acknowledges its request.

    `reply(request, None)` drops a request unanswered: at a stop, so that the broker delivers it again.
    """

    def __init__(
        self,
        config: Config,
        topics: Topics,
        registry: Registry,
        pool: Pool,
        history: History,
        ledger: Ledger,
        reply: Reply,
    ) -> None:
        self._config = config
        self._topics = topics
        self._registry = registry
        self._pool = pool
        self._history = history
        self._ledger = ledger
        self._reply = reply
        self._node = config.node.name
        self._node_json = encode(config.node.name)
        self._id_prefix = secrets.token_hex(4)
        self._id_number = 0
        self._numbering = threading.Lock()
        self._queue: FairQueue[Request] = FairQueue(self._cap)
        self._stopping = False
        self._due_s: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._serve, name=f"dispatch-{number}", daemon=True)
            for number in range(config.threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> None:
        """Queue a request for its function; never waits. Unknown functions share one queue."""
        request.function = request.topic[len(self._topics.invoke_prefix) :]
        self._queue.submit(request.function if request.function in self._registry else "", request)

    def stop(self, deadline_s: float) -> None:
        """Let running calls finish until the monotonic `deadline_s`, then kill them. What waited is not run."""
        self._stopping = True
        for request in self._queue.close():
            self._give_up(request)
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            logger.warning("drain_deadline_passed", running=self._queue.out())
            self._pool.interrupt()
        for thread in self._threads:
            thread.join(5.0)

    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return self._queue.waiting()

    def running(self) -> int:
        """Requests that run."""
        return self._queue.out()

    def stuck(self) -> list[str]:
        """Threads that are past the longest time their call may take, and threads that have died."""
        now_s = time.monotonic()
        overdue = [name for name, due_s in list(self._due_s.items()) if now_s > due_s]
        return overdue if self._stopping else overdue + [each.name for each in self._threads if not each.is_alive()]

    def _cap(self, function: str) -> int:
        """How many threads a function may hold at once."""
        if not function:
            return 1
        spec = self._registry.get_spec(function)
        own = spec.limits.concurrency if spec else 1
        return own or max(1, len(self._threads) - 1)

    def _serve(self) -> None:
        name = threading.current_thread().name
        while (taken := self._queue.take()) is not None:
            function, request = taken
            try:
                answer = self._answer(request, name)
                self._reply(request, answer)
            except Exception:
                logger.exception("dispatch_failed", function=function)
            finally:
                self._due_s.pop(name, None)
                self._queue.done(function)

    def _answer(self, request: Request, thread: str) -> Answer | None:
        """The one outcome of a request, recorded and ready to be published; None to leave it to the broker."""
        if self._ledger.was_answered(request) and (answer := self._answer_again(request)) is not None:
            return answer
        run = Run(self._next_id(), request, time.monotonic(), time.time())
        try:
            payload = self._prepare(run)
            if payload is None:
                return _SILENCE
            assert run.spec is not None
            limits = run.spec.limits
            self._due_s[thread] = run.started_s + limits.timeout_s + self._config.pool.start_timeout_s + _STUCK_SLACK_S
            outcome: Result | Failure = self._pool.run(run.spec, run.id, payload)
        except Failure as failure:
            if self._stopping and request.mid and failure.code in ("crashed", "unavailable"):
                return None
            outcome = failure
        except Exception:
            logger.exception("invocation_internal_error", function=request.function, invocation_id=run.id)
            outcome = Internal("a fault of the server's own; its log tells more")
        return self._recorded(run, outcome)

    def _prepare(self, run: Run) -> bytes | None:
        """Check everything about a request before it runs; returns the worker's payload, or None to ignore it."""
        request = run.request
        run.spec = self._registry.get_spec(request.function)
        largest = (run.spec.limits if run.spec else self._config.limits).max_payload_bytes
        if len(request.payload) > largest:
            run.request_id = glimpse_request_id(request.payload)
            raise BadRequest(f"the payload has {len(request.payload)} bytes, {largest} are allowed")
        body = parse_object(request.payload)
        envelope = parse_envelope(body)
        run.request_id = envelope.request_id
        if envelope.node and envelope.node != self._node:
            return None
        check_function(request.function)
        if run.spec is None:
            self._registry.record(request.function)
        check_arguments(body)
        self._check_response_topic(request)
        if request.expires_s is not None and run.started_s >= request.expires_s:
            raise Expired("its message expiry passed before it could start")
        if envelope.deadline_ms is not None and (run.started_s - request.received_s) * 1000 >= envelope.deadline_ms:
            raise Expired(f"its deadline of {envelope.deadline_ms:g} ms passed before it could start")
        if self._stopping:
            raise Unavailable("the server is stopping")
        run.arguments = self._arguments(body)
        return request.payload

    def _arguments(self, body: dict[str, object]) -> bytes:
        """What the history keeps of a request, as further keys of its record."""
        cut_bytes = self._config.history.cut_bytes
        text = b""
        for key in ("args", "kwargs"):
            if key == "args" or body.get(key):
                value = encode(body.get(key, []))
                text += b',"%s":%s' % (key.encode(), value if len(value) <= cut_bytes else _cut(value, cut_bytes))
                if len(value) > cut_bytes and b',"cut":true' not in text:
                    text += b',"cut":true'
        return text

    def _check_response_topic(self, request: Request) -> None:
        topic = request.response_topic
        if not topic:
            return
        allowed = self._config.mqtt.response_prefixes
        if "+" in topic or "#" in topic or not topic.startswith(allowed):
            request.response_topic = ""
            raise Forbidden(f"the response topic must lie under {' or '.join(allowed)} and have no wildcard")

    def _recorded(self, run: Run, outcome: Result | Failure) -> Answer:
        """Write the answer, put it into the history, and only then hand it out."""
        ended_s = time.monotonic()
        head, tail = self._head(run), self._tail(run, ended_s, cold=isinstance(outcome, Result) and outcome.cold)
        payload = b"{" + head + _middle(outcome) + tail + b"}"
        if run.spec is not None:
            self._record(run, payload, head, outcome, tail)
        self._ledger.note_answered(run.request)
        _log(run, outcome, ended_s)
        return self._addressed(run.request, payload, failed=isinstance(outcome, Failure))

    def _record(self, run: Run, payload: bytes, head: bytes, outcome: Result | Failure, tail: bytes) -> None:
        request, cut_bytes = run.request, self._config.history.cut_bytes
        line = payload[:-1] + run.arguments
        if isinstance(outcome, Result) and len(outcome.json) > cut_bytes:
            self._ledger.keep_answer(request, payload)
            cut = b"" if b',"cut":true' in run.arguments else b',"cut":true'
            shown = b'"status":"success","result":' + _cut(outcome.json, cut_bytes)
            line = b"{" + head + shown + tail + run.arguments + cut
        if request.mid:
            line += b',"delivery":"%s"' % self._ledger.key(request).encode()
        self._history.append(request.function, line + b"}", failed=isinstance(outcome, Failure))

    def _head(self, run: Run) -> bytes:
        version = b"null" if run.spec is None else b"%d" % run.spec.version
        request_id = encode(run.request_id) if run.request_id else b'"%s"' % run.id.encode()
        function = encode(run.request.function)
        return b'"id":"%s","request_id":%s,"function":%s,"version":%s,"node":%s,' % (
            run.id.encode(), request_id, function, version, self._node_json,
        )  # fmt: skip

    def _tail(self, run: Run, ended_s: float, *, cold: bool) -> bytes:
        duration_s = ended_s - run.started_s
        queued_ms = (run.started_s - run.request.received_s) * 1000
        return b',"time_start":"%s","time_end":"%s","duration_ms":%.2f,"queued_ms":%.2f,"cold":%s' % (
            iso_time(run.started_wall_s).encode(), iso_time(run.started_wall_s + duration_s).encode(),
            duration_s * 1000, queued_ms, b"true" if cold else b"false",
        )  # fmt: skip

    def _addressed(self, request: Request, payload: bytes, *, failed: bool) -> Answer:
        topic = request.response_topic
        if not topic and FUNCTION_NAME.fullmatch(request.function):
            topic = self._topics.invoke_answer(request.function)
        if not failed:
            return Answer(topic, payload)
        return Answer(topic, payload, payload[:-1] + b',"topic":%s,"command":"invoke"}' % encode(request.topic))

    def _answer_again(self, request: Request) -> Answer | None:
        recorded = self._ledger.recorded_answer(request)
        if recorded is None:
            return None
        logger.info("answered_again", function=request.function)
        return self._addressed(request, recorded, failed=b'"status":"error"' in recorded)

    def _give_up(self, request: Request) -> None:
        """At a stop: QoS 1 stays with the broker, QoS 0 is told."""
        if request.mid:
            self._reply(request, None)
            return
        run = Run(self._next_id(), request, time.monotonic(), time.time(), glimpse_request_id(request.payload))
        self._reply(request, self._recorded(run, Unavailable("the server is stopping")))

    def refuse(self, request: Request, failure: Failure) -> Answer:
        """The answer to a request that may not be held. Not recorded: there may be thousands a second."""
        request.function = request.topic[len(self._topics.invoke_prefix) :]
        run = Run(self._next_id(), request, time.monotonic(), time.time(), glimpse_request_id(request.payload))
        payload = b"{" + self._head(run) + _middle(failure) + self._tail(run, run.started_s, cold=False) + b"}"
        return self._addressed(request, payload, failed=True)

    def _next_id(self) -> str:
        with self._numbering:
            self._id_number += 1
            return f"{self._id_prefix}{self._id_number:08x}"


def _middle(outcome: Result | Failure) -> bytes:
    if isinstance(outcome, Result):
        return b'"status":"success","result":' + outcome.json
    return encode(error_keys(outcome))[1:-1]


def _log(run: Run, outcome: Result | Failure, ended_s: float) -> None:
    failed = {"code": outcome.code, "error": outcome.message} if isinstance(outcome, Failure) else {}
    say = logger.warning if failed else logger.info
    say("invocation_done", function=run.request.function, invocation_id=run.id, request_id=run.request_id or run.id,
        duration_ms=round((ended_s - run.started_s) * 1000, 2), **failed)  # fmt: skip


def _cut(text: bytes, largest: int) -> bytes:
    """The beginning of a JSON text, as a JSON string."""
    return encode(text[:largest].decode("utf-8", "ignore") + "…")
