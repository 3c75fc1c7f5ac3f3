"""From a request to its one outcome: a queue per function, and threads that take turns among them.

The only hand-over between threads is the queue; after it everything is a call that returns, so one traceback shows
the way of an invocation.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from tinyfaas import log
from tinyfaas.conclusion import SILENCE, Conclusion
from tinyfaas.config import Config
from tinyfaas.deadletters import DeadLetters
from tinyfaas.delivery import Ledger
from tinyfaas.errors import Failure, Internal, Unavailable
from tinyfaas.fairqueue import FairQueue
from tinyfaas.feed import Feed
from tinyfaas.inlet import Inlet
from tinyfaas.intake import Intake
from tinyfaas.loops import Loops
from tinyfaas.model import Answer, Firing, FunctionSpec, Invocation, Request, Result
from tinyfaas.pool import Pool
from tinyfaas.protocol import (
    Topics,
)
from tinyfaas.pulse import Pulse
from tinyfaas.recorder import Recorder
from tinyfaas.registry import Registry
from tinyfaas.retained import Retained
from tinyfaas.triggers import Triggers
from tinyfaas.worker import Worker

logger = log.get("dispatch")

_CUT_SHORT = ("crashed", "unavailable")  # how a call ends that a stop has interrupted
_LONGEST_PAUSE_S = 60.0
Reply = Callable[[Request, Answer | None], None]
Publish = Callable[[str, bytes], None]
_STUCK_SLACK_S = 10.0
_QUIET_S = 0.25
_LOOK_S = 0.02
_TOGETHER = 8  # answers at most that wait for each other
_SHORTLY_MS = 1  # how long a busy thread waits for a worker before it lets others read


@dataclass(slots=True)
class _Run:
    """A request on its way through one thread: `begun` has its call; it ends with an outcome, or with an answer.

    `key` is that of its queue.
    """

    key: str
    invocation: Invocation
    payload: bytes | None = None
    begun: Worker | None = None
    outcome: Result | Failure | None = None
    answer: Answer | None = None

    def is_over(self, within_ms: int = 0) -> bool:
        """Whether its outcome is there, or comes within this time, so that nobody need wait for it any longer."""
        if self.outcome is not None or self.answer is not None:
            return True
        return self.begun is not None and self.begun.answered(within_ms)


class Dispatcher:
    """Runs requests on a bounded number of threads; `reply` publishes an answer and acknowledges its request.

    `reply(request, None)` drops a request unanswered: at a stop, so that the broker delivers it again. What was replied
    goes out with the next `send_answers`. `publish` sends what answers nobody. `discard` is told of a message that one
    function less needs.
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
        send_answers: Callable[[], object],
        inlet: Inlet,
    ) -> None:
        self._config = config
        self._topics = topics
        self._registry = registry
        self._pool = pool
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._loops = loops
        self._reply = reply
        self._send_answers = send_answers
        self._inlet = inlet
        self._intake = Intake(config, registry, ledger, recorder, retained, loops)
        self._most_of_one = max(1, config.threads - 1)
        self._queue: FairQueue[Request] = FairQueue(self._cap, config.threads, inlet)
        self.feed = Feed(
            triggers, ledger, loops, retained, recorder, lambda firing: self._queue.put(firing.function, firing),
            self._queue.wake, discard, shown_again=config.mqtt.protocol != "5",
        )  # fmt: skip
        self._conclusion = Conclusion(
            topics, registry, ledger, recorder, dead_letters, retained, loops, self.feed, publish
        )
        self._stopping = threading.Event()
        names = [f"dispatch-{number}" for number in range(config.threads)]
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
        self._intake.reload(config)

    def accept(self, request: Request) -> None:
        """Queue a request for its function, or what a message triggers; never waits. Unknown ones share a queue.

        The thread that does so takes it, or calls `arrived`.
        """
        if not self._is_call(request):
            self.feed.take(request)
            return
        request.function = request.topic[len(self._topics.invoke_prefix) :]
        if self._loops.remembers and not request.chain:
            request.chain = self._loops.recalled(request.topic, request.payload)
        self._queue.put(request.function if request.function in self._registry else "", request)

    def arrived(self) -> None:
        """Wake a thread for what was accepted."""
        self._queue.wake()

    def _is_call(self, request: Request) -> bool:
        """Whether a message asks for a call, though perhaps of no function at all."""
        prefix, topic = self._topics.invoke_prefix, request.topic
        return topic.startswith(prefix) or topic == prefix[:-1]

    def refuse(self, request: Request, failure: Failure) -> Answer:
        """The answer to a request that may not be held; a message that is none has no answer."""
        if not self._is_call(request):
            return SILENCE
        request.function = request.topic[len(self._topics.invoke_prefix) :]
        return self._conclusion.refusal(self._intake.refused(request), failure)

    def answer_again(self, request: Request) -> Answer | None:
        """The answer that a request got before; None if it was too large to be kept."""
        return self._conclusion.answer_again(request)

    def forget(self, function: str) -> None:
        """Forget what is remembered of a deleted function."""
        self._conclusion.forget(function)
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
            self.accept(request)
            self.arrived()
            count += 1
        return count

    def run_scheduled(self, function: str, payload: bytes, schedule: str) -> Request | None:
        """Queue what a schedule asks for, unless as much is held as may be; returns the request."""
        if self._ledger.full():
            return None
        topic = self._topics.invoke_prefix + function
        request = Request(topic, payload, received_s=time.monotonic(), schedule=schedule)
        self._ledger.hold(request)
        self.accept(request)
        self.arrived()
        return request

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
        """Take requests, one after the other: each is under way before the one before is recorded and answered.

        So a worker has something to do while this thread writes, and no thread needs to be woken for that. Answers go
        out together as long as this thread does not wait.
        """
        before: _Run | None = None
        unsent = 0
        while True:
            finished = before.key if before else None
            taken = self._queue.take(finished, pulse.beat, wait=before is None)
            pulse.beat()
            run = self._start(*taken) if taken else None
            if before is not None:
                self._settle(before)
                unsent += 1
            elif run is None:
                return
            over = run is not None and run.is_over()
            if before is not None and (unsent >= _TOGETHER or not over):
                self._inlet.read_on()  # also where nothing waits: what confirms our answers need wake no other thread
                self._queue.wake()
                over = run is not None and run.is_over()
            if unsent and (unsent >= _TOGETHER or not over):
                self._send_answers()
                unsent = 0
            if run is not None:
                if not over and (before is None or not run.is_over(_SHORTLY_MS)):
                    self._inlet.look_on()
                self._finish(run, pulse)
            before = run

    def _start(self, key: str, request: Request) -> _Run:
        """Begin a request's run: what is wrong with it is known now, and a warm worker has its call."""
        run = _Run(key, self._intake.begin(request))
        try:
            if (answer := self._conclusion.answered_before(request)) is not None:
                run.answer = answer
                return run
            payload = run.payload = self._checked(run.invocation)
            if payload is None:
                run.answer = SILENCE
                return run
            spec = run.invocation.spec
            assert spec is not None
            log.about(request_id=run.invocation.request_id or run.invocation.id)
            run.begun = self._pool.begin(spec, run.invocation.id, payload, request.chain)
        except Failure as failure:
            run.outcome = failure
        except Exception:  # noqa: BLE001  (`_own_fault` logs it)
            run.outcome = self._own_fault(run.invocation)
        return run

    def _finish(self, run: _Run, pulse: Pulse) -> None:
        """Wait for the one outcome of a run."""
        if run.answer is None and run.outcome is None:
            assert run.payload is not None and run.invocation.spec is not None
            log.about(request_id=run.invocation.request_id or run.invocation.id)
            try:
                run.outcome = self._run(run.invocation, run.invocation.spec, run.payload, run.begun, pulse)
            except Failure as failure:
                run.outcome = failure
            except Exception:  # noqa: BLE001  (`_own_fault` logs it)
                run.outcome = self._own_fault(run.invocation)
            pulse.beat()
        run.invocation.ended_s = time.monotonic()

    def _settle(self, run: _Run) -> None:
        """Record a run's outcome, publish its answer and acknowledge its request."""
        request = run.invocation.request
        log.about()
        try:
            self._reply(request, run.answer or self._answer(run.invocation, run.outcome))
        except Exception:
            logger.exception("dispatch_failed", function=run.key)

    def _answer(self, invocation: Invocation, outcome: Result | Failure | None) -> Answer | None:
        """The recorded answer of an outcome, ready to be published; None to leave the request to the broker."""
        request = invocation.request
        assert outcome is not None
        interrupted = isinstance(outcome, Failure) and outcome.code in _CUT_SHORT
        if interrupted and self._stopping.is_set() and _comes_again(request):
            return None
        return self._conclusion.answer(invocation, outcome)

    def _checked(self, invocation: Invocation) -> bytes | None:
        """What the worker gets of a request that nothing is wrong with; None to ignore it."""
        if isinstance(invocation.request, Firing):
            invocation.spec = self._registry.get_spec(invocation.request.function)
            return self.feed.prepare(invocation, invocation.spec)
        return self._intake.check(invocation, stopping=self._stopping.is_set())

    def _own_fault(self, invocation: Invocation) -> Internal:
        logger.exception("invocation_internal_error", function=invocation.request.function, invocation_id=invocation.id)
        return Internal("a fault of the server's own; its log tells more")

    def _run(
        self, invocation: Invocation, spec: FunctionSpec, payload: bytes, begun: Worker | None, pulse: Pulse
    ) -> Result:
        """Call the function, again where its settings say so; raises the last `Failure`. `begun` has the first call.

        The pause is spent on this thread, so that a function with `concurrency = 1` keeps its order.
        """
        longest_s = spec.limits.timeout_s + self._config.pool.start_timeout_s + _STUCK_SLACK_S
        pause_s = spec.retry.backoff_s
        while True:
            pulse.allow(longest_s + pause_s)
            try:
                return self._pool.run(spec, invocation.id, payload, invocation.request.chain, begun)
            except Failure as failure:
                if failure.code not in spec.retry.on or invocation.attempts >= spec.retry.attempts:
                    raise
                logger.warning("invocation_retried", function=spec.name, invocation_id=invocation.id,
                               attempt=invocation.attempts, code=failure.code, pause_s=pause_s)  # fmt: skip
            if self._stopping.wait(pause_s):
                raise Unavailable("the server is stopping")
            begun = None
            invocation.attempts += 1
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _give_up(self, request: Request) -> None:
        """At a stop: QoS 1 stays with the broker, a dead letter where it was, a schedule is asked; QoS 0 is told."""
        if _comes_again(request) or request.letter or request.schedule or isinstance(request, Firing):
            self._reply(request, None)
            return
        stopping = Unavailable("the server is stopping")
        self._reply(request, self._conclusion.unrun(self._intake.refused(request), stopping))
        self._send_answers()


def _comes_again(request: Request) -> bool:
    """Whether the broker delivers again what is not acknowledged now."""
    if isinstance(request, Firing):
        return any(cause.mid for cause in request.causes)
    return bool(request.mid)
