"""From a request to its one outcome: a queue per function, and threads that take turns among them.

The only hand-over between threads is the queue; after it everything is a call that returns, so one traceback shows
the way of an invocation.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection
from functools import partial

from tinyfaas import log
from tinyfaas.config import Config
from tinyfaas.deadletters import DeadLetters
from tinyfaas.delivery import Ledger, digest_of
from tinyfaas.effects import Effects
from tinyfaas.errors import BadRequest, Failure, Internal, Unavailable
from tinyfaas.fairqueue import FairQueue
from tinyfaas.feed import Feed
from tinyfaas.loops import Loops
from tinyfaas.model import Answer, Firing, FunctionSpec, Invocation, Request, Result
from tinyfaas.pool import Pool
from tinyfaas.protocol import (
    Topics,
    check_arguments,
    check_function,
    check_time,
    encode,
    glimpse_request_id,
    parse_envelope,
    parse_object,
    take_back_response_topic,
)
from tinyfaas.pulse import Pulse
from tinyfaas.recorder import Recorder
from tinyfaas.registry import Registry
from tinyfaas.retained import Retained
from tinyfaas.triggers import Triggers

logger = log.get("dispatch")

_CUT_SHORT = ("crashed", "unavailable")  # how a call ends that a stop has interrupted
_LONGEST_PAUSE_S = 60.0
Reply = Callable[[Request, Answer | None], None]
Publish = Callable[[str, bytes], None]
_STUCK_SLACK_S = 10.0
_SPARE = 1  # while one thread records and answers a call, another may start the next
_QUIET_S = 0.25
_LOOK_S = 0.02
_SILENCE = Answer("", b"")


class Dispatcher:
    """Runs requests on a bounded number of threads; `reply` publishes an answer and acknowledges its request.

    `reply(request, None)` drops a request unanswered: at a stop, so that the broker delivers it again. `publish` sends
    what answers nobody. `discard` is told of a message that one function less needs.
    """

    def __init__(
        self,
        config: Config,
        topics: Topics,
        registry: Registry,
        pool: Pool,
        ledger: Ledger,
        recorder: Recorder,
        dead_letters: DeadLetters,
        retained: Retained,
        triggers: Triggers,
        loops: Loops,
        reply: Reply,
        publish: Publish,
        discard: Callable[[Request], None],
    ) -> None:
        self._config = config
        self._topics = topics
        self._registry = registry
        self._pool = pool
        self._ledger = ledger
        self._recorder = recorder
        self._dead_letters = dead_letters
        self._retained = retained
        self._loops = loops
        self._effects = Effects(loops, topics.error)
        self._reply = reply
        self._publish = publish
        self._node = config.node.name
        self._id_prefix = secrets.token_hex(4)
        self._id_number = 0
        self._numbering = threading.Lock()
        self._most_of_one = max(1, config.threads - 1)
        self._queue: FairQueue[Request] = FairQueue(self._cap, config.threads)
        self.feed = Feed(
            triggers, ledger, loops, retained, recorder, lambda firing: self._queue.submit(firing.function, firing),
            discard, shown_again=config.mqtt.protocol != "5",
        )  # fmt: skip
        self._stopping = threading.Event()
        names = [f"dispatch-{number}" for number in range(config.threads + _SPARE)]
        self._pulses = {name: Pulse(name) for name in names}
        self._threads = [
            threading.Thread(target=self._serve, args=(pulse,), name=name, daemon=True)
            for name, pulse in self._pulses.items()
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def reload(self, config: Config) -> None:
        """Go by another configuration from the next request on."""
        self._config = config

    def submit(self, request: Request) -> None:
        """Queue a request for its function, or what a message triggers; never waits. Unknown ones share a queue."""
        if not self._is_call(request):
            self.feed.take(request)
            return
        request.function = request.topic[len(self._topics.invoke_prefix) :]
        if self._loops.remembers and not request.chain:
            request.chain = self._loops.recalled(request.topic, request.payload)
        self._queue.submit(request.function if request.function in self._registry else "", request)

    def _is_call(self, request: Request) -> bool:
        """Whether a message asks for a call, though perhaps of no function at all."""
        prefix, topic = self._topics.invoke_prefix, request.topic
        return topic.startswith(prefix) or topic == prefix[:-1]

    def refuse(self, request: Request, failure: Failure) -> Answer:
        """The answer to a request that may not be held; a message that is none has no answer."""
        if not self._is_call(request):
            return _SILENCE
        request.function = request.topic[len(self._topics.invoke_prefix) :]
        take_back_response_topic(request, self._config.mqtt.response_prefixes)
        invocation = self._begin(request)
        invocation.request_id = glimpse_request_id(request.payload)
        return self._effects.added(self._recorder.refusal(invocation, failure), request, None, None)

    def forget(self, function: str) -> None:
        """Forget what is remembered of a deleted function."""
        self._effects.forget(function)
        self.feed.forget(function)

    def redrive(self, function: str) -> int:
        """Run a function's dead letters again, as far as there is room; returns how many were queued."""
        count = 0
        for file, payload, body in self._dead_letters.letters(function):
            if self._ledger.full():
                break
            topic, now_s = self._topics.invoke_prefix + function, time.monotonic()
            kind = partial(Firing, body=body) if body else Request
            request = kind(topic, payload, qos=1, received_s=now_s, letter=file)
            self._ledger.hold(request)
            self.submit(request)
            count += 1
        return count

    def finish(self, functions: Collection[str], until_s: float) -> None:
        """Wait until nothing of these functions is held any more, or the monotonic `until_s` has passed.

        Only for a while: with each acknowledgement the broker may send what it had lined up for us.
        """
        if not functions:
            return
        quiet_s = time.monotonic()
        while (now_s := time.monotonic()) < min(until_s, quiet_s + _QUIET_S):
            if self._queue.holds(functions):
                quiet_s = now_s
            time.sleep(_LOOK_S)

    def stop(self, deadline_s: float) -> None:
        """Let running calls finish until the monotonic `deadline_s`, then kill them. What waited is not run."""
        self._stopping.set()
        self.feed.stop()
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

    def stuck(self, within_s: float) -> list[str]:
        """Threads that have died, or have shown no life within this time or the longest that their call may take."""
        return [
            each.name
            for each in self._threads
            if self._pulses[each.name].late(within_s) or not (each.is_alive() or self._stopping.is_set())
        ] + self.feed.stuck(within_s)

    def _cap(self, function: str) -> int:
        """How many threads a function may hold at once."""
        spec = self._registry.get_spec(function)
        if spec is None:
            return 1
        return spec.limits.concurrency or self._most_of_one

    def _serve(self, pulse: Pulse) -> None:
        while (taken := self._queue.take(while_idle=pulse.beat)) is not None:
            key, request = taken
            pulse.beat()
            try:
                self._reply(request, self._answer(request, key))
            except Exception:
                logger.exception("dispatch_failed", function=key)
            finally:
                log.about()
                pulse.beat()

    def _answer(self, request: Request, key: str) -> Answer | None:
        """The one outcome of a request, recorded and ready to be published; None to leave it to the broker."""
        invocation = self._begin(request)
        try:
            if (answer := self._answered_before(request)) is not None:
                return answer
            outcome = self._outcome(invocation)
        finally:
            self._queue.done(key)  # while this thread records and replies, another may run the next
        if outcome is None:
            return _SILENCE
        cut_short = isinstance(outcome, Failure) and outcome.code in _CUT_SHORT
        if cut_short and self._stopping.is_set() and _comes_again(request):
            return None
        answer = self._recorder.answer(invocation, outcome)
        self._conclude(invocation, outcome, answer)
        spec = invocation.spec
        if not (request.chain or isinstance(request, Firing) or (spec is not None and spec.wiring.output is not None)):
            return answer  # as most calls are: nobody but the caller hears of it
        return self._effects.added(answer, request, spec, outcome.json if isinstance(outcome, Result) else None)

    def _outcome(self, invocation: Invocation) -> Result | Failure | None:
        """What comes of an invocation; None to ignore it."""
        try:
            payload = self._prepare(invocation)
            if payload is None:
                return None
            assert invocation.spec is not None
            log.about(request_id=invocation.request_id or invocation.id)
            return self._run(invocation, invocation.spec, payload)
        except Failure as failure:
            return failure
        except Exception:
            function = invocation.request.function
            logger.exception("invocation_internal_error", function=function, invocation_id=invocation.id)
            return Internal("a fault of the server's own; its log tells more")

    def _run(self, invocation: Invocation, spec: FunctionSpec, payload: bytes) -> Result:
        """Call the function, again where its settings say so; raises the last `Failure`.

        The pause is spent on this thread, so that a function with `concurrency = 1` keeps its order.
        """
        longest_s = spec.limits.timeout_s + self._config.pool.start_timeout_s + _STUCK_SLACK_S
        pause_s = spec.retry.backoff_s
        pulse = self._pulses[threading.current_thread().name]
        while True:
            pulse.allow(longest_s + pause_s)
            try:
                return self._pool.run(spec, invocation.id, payload)
            except Failure as failure:
                if failure.code not in spec.retry.on or invocation.attempts >= spec.retry.attempts:
                    raise
                logger.warning("invocation_retried", function=spec.name, invocation_id=invocation.id,
                               attempt=invocation.attempts, code=failure.code, pause_s=pause_s)  # fmt: skip
            if self._stopping.wait(pause_s):
                raise Unavailable("the server is stopping")
            invocation.attempts += 1
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _prepare(self, invocation: Invocation) -> bytes | None:
        """Check everything about a request before it runs; returns the worker's payload, or None to ignore it."""
        request = invocation.request
        if isinstance(request, Firing):
            invocation.spec = self._registry.get_spec(request.function)
            return self.feed.prepare(invocation, invocation.spec)
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
        if self._stopping.is_set():
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

    def _conclude(self, invocation: Invocation, outcome: Result | Failure, answer: Answer) -> None:
        """What else an outcome asks for: a dead letter, one less, a retained message that has been run."""
        request, spec = invocation.request, invocation.spec
        if isinstance(request, Firing):
            self.feed.concluded(request)
        if request.retain:
            self._retained.note(request.topic, digest_of(request.topic, request.payload, None))
        given_up = isinstance(outcome, Failure) and spec is not None and outcome.code in spec.retry.on
        if given_up and spec is not None and (spec.retry.attempts > 1 or request.letter):
            body = request.body if isinstance(request, Firing) else b""
            self._dead_letters.keep(request.function, invocation.id, request.payload, body)
            letter = (
                (answer.payload or answer.error_payload)[:-1]
                + b',"payload":'
                + encode(parse_object(request.payload))
                + b"}"
            )
            self._publish(self._topics.deadletter(request.function), letter)
        if request.letter is not None:
            request.letter.unlink(missing_ok=True)

    def _answered_before(self, request: Request) -> Answer | None:
        """The answer of a request that had it already when it was delivered; None of any other."""
        if isinstance(request, Firing):
            return (self.answer_again(request) or _SILENCE) if request.recorded else None
        return self.answer_again(request) if self._ledger.was_answered(request) else None

    def answer_again(self, request: Request) -> Answer | None:
        """The answer that a request got before, addressed anew; None if it was too large to be kept."""
        recorded = (
            self._ledger.recorded_firing(request)
            if isinstance(request, Firing)
            else self._ledger.recorded_answer(request)
        )
        if recorded is None:
            return None
        logger.info("answered_again", function=request.function)
        failed = b'"status":"error"' in recorded
        answer = self._recorder.addressed(request, recorded, failed=failed)
        result = None if failed else encode(parse_object(recorded).get("result"))
        return self._effects.added(answer, request, self._registry.get_spec(request.function), result, again=True)

    def _give_up(self, request: Request) -> None:
        """At a stop: QoS 1 stays with the broker, a dead letter where it was, and QoS 0 is told."""
        if _comes_again(request) or request.letter or isinstance(request, Firing):
            self._reply(request, None)
            return
        invocation = self._begin(request)
        invocation.request_id = glimpse_request_id(request.payload)
        self._reply(request, self._recorder.answer(invocation, Unavailable("the server is stopping")))

    def _begin(self, request: Request) -> Invocation:
        with self._numbering:
            self._id_number += 1
            number = self._id_number
        return Invocation(f"{self._id_prefix}{number:08x}", request, time.monotonic(), time.time())


def _comes_again(request: Request) -> bool:
    """Whether the broker delivers again what is not acknowledged now."""
    if isinstance(request, Firing):
        return any(cause.mid for cause in request.causes)
    return bool(request.mid)
