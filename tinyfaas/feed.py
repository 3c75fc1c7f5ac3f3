"""From a message to the calls it triggers: matched and gathered by the thread that reads, checked on a dispatch thread.

A message is acknowledged when all its calls are recorded and what they publish is out; so it is held, and each call is
a `Firing` of its own in the queue of its function. What waits in a window is unacknowledged too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tinyfaas import eventbody, log
from tinyfaas.delivery import Ledger, digest_of
from tinyfaas.errors import Failure
from tinyfaas.loops import Loops
from tinyfaas.model import Firing, FunctionSpec, Invocation, Request, Trigger
from tinyfaas.protocol import check_time
from tinyfaas.pulse import Pulse
from tinyfaas.recorder import Recorder
from tinyfaas.retained import Retained
from tinyfaas.triggers import Target, Triggers
from tinyfaas.windows import Due, Windows

logger = log.get("feed")

_TICK_S = 1.0
_JOIN_S = 2.0


class Feed:
    """Takes messages that are no requests.

    `queue` puts a firing into its function's queue, and `arrived` wakes a thread for it, unless that is the one that
    put it there. `discard` is told of a message that one function less needs: never waits, also on the thread that
    reads.
    """

    def __init__(
        self,
        triggers: Triggers,
        ledger: Ledger,
        loops: Loops,
        retained: Retained,
        recorder: Recorder,
        queue: Callable[[Firing], None],
        arrived: Callable[[], object],
        discard: Callable[[Request], None],
        *,
        shown_again: bool,
    ) -> None:
        """`shown_again`: the broker shows at each subscription what it has retained, delivered before or not."""
        self._triggers = triggers
        self._ledger = ledger
        self._loops = loops
        self._retained = retained
        self._recorder = recorder
        self._queue = queue
        self._arrived = arrived
        self._discard = discard
        self._shown_again = shown_again
        self._changing = threading.Condition()
        self._windows = Windows()
        self._clock: threading.Thread | None = None  # started by the first that has to wait
        self._pulse = Pulse("windows")
        self._stopping = False
        self.messages = 0
        self.dropped = 0

    # --- on the thread that reads ------------------------------------------------------------------------------------

    def take(self, request: Request) -> None:
        """A message has come: fire what it triggers, or have it wait. One that triggers nothing is acknowledged."""
        self.messages += 1
        targets = self._triggers.targets(request.topic, request.identifiers)
        if request.retain:
            targets = self._triggers.shown(targets)
        if not request.chain:
            request.chain = self._loops.recalled(request.topic, request.payload)
        again = [self._ledger.was_recorded(request, target.function) for target in targets]
        request.firings = max(1, len(targets))
        request.unrecorded = again.count(False)
        if not targets:
            self._discard(request)
        for target, recorded in zip(targets, again, strict=True):
            if recorded or not _has_window(target):
                self._fire(target, [request], recorded=recorded)
            else:
                self._wait(target, request)

    def _fire(self, target: Target, causes: list[Request], *, recorded: bool = False) -> None:
        trigger, first = target.trigger, causes[0]
        self._queue(
            Firing(
                topic=first.topic if trigger.batch is None else trigger.topic,
                payload=b"",
                qos=max(cause.qos for cause in causes),
                received_s=first.received_s,
                function=target.function,
                trigger=trigger,
                causes=tuple(causes),
                recorded=recorded,
                chain=first.chain if len(causes) == 1 else self._loops.joined(cause.chain for cause in causes),
            )
        )

    def _wait(self, target: Target, request: Request) -> None:
        with self._changing:
            if self._stopping:
                return  # it stays with the broker
            next_s = self._windows.next_s()
            due = self._windows.add(target, request, time.monotonic())
            if target.trigger.batch is not None and self._ledger.full():
                rest = self._windows.full_batches()
                due.ready += rest.ready
            if self._windows.next_s() != next_s:
                self._wind_up()
        self._carry_out(due)

    def _carry_out(self, due: Due) -> None:
        for target, causes in due.ready:
            self._fire(target, causes)
        for request in due.dropped:
            self.dropped += 1
            self._discard(request)

    # --- the thread that waits ---------------------------------------------------------------------------------------

    def _wind_up(self) -> None:
        if self._clock is None:
            self._pulse.beat()
            self._clock = threading.Thread(target=self._run, name="windows", daemon=True)
            self._clock.start()
        self._changing.notify()

    def _run(self) -> None:
        while not self._stopping:
            self._pulse.beat()
            with self._changing:
                next_s = self._windows.next_s()
                now_s = time.monotonic()
                if next_s is None or next_s > now_s:
                    self._changing.wait(_TICK_S if next_s is None else min(_TICK_S, next_s - now_s))
                if self._stopping:
                    return
                due = self._windows.due(time.monotonic())
            self._carry_out(due)
            self._arrived()

    def stuck(self, within_s: float) -> list[str]:
        """The thread that waits, if it has died or shown no life within this time."""
        clock = self._clock
        if clock is None or self._stopping:
            return []
        return ["windows"] if self._pulse.late(within_s) or not clock.is_alive() else []

    def counts(self) -> dict[str, int]:
        """What has come since the start, what of it waits for more, was dropped for a later one, or ended a loop."""
        with self._changing:
            waiting = self._windows.waiting()
        return {
            "messages": self.messages, "waiting": waiting, "dropped": self.dropped, "loops_broken": self._loops.broken,
        }  # fmt: skip

    def forget(self, function: str) -> None:
        """A function has been deleted: what waits for it is dropped."""
        with self._changing:
            due = self._windows.forget(function)
        self._carry_out(due)

    def stop(self) -> None:
        """Nothing waits any more: QoS 1 stays with the broker, QoS 0 is lost and said to be."""
        with self._changing:
            self._stopping = True
            waited = self._windows.clear()
            self._changing.notify()
        if self._clock is not None:
            self._clock.join(_JOIN_S)
        lost = sum(not request.qos for request in waited)
        if lost:
            logger.warning("events_lost", count=lost)

    # --- on a dispatch thread ----------------------------------------------------------------------------------------

    def prepare(self, invocation: Invocation, spec: FunctionSpec | None) -> bytes | None:
        """Check the messages of a firing; returns what the worker gets, or None to ignore it. Raises a `Failure`.

        What is wrong with one message of a batch is recorded for that one, and the others are run.
        """
        firing = invocation.request
        assert isinstance(firing, Firing)
        if spec is None:  # deleted while it waited
            return None
        if not firing.causes:
            invocation.arguments = self._recorder.event(firing.topic, firing.payload)
            return firing.body
        if len(firing.causes) == 1 and self._loops.exhausted(firing.causes[0].chain, firing.function):
            return None
        trigger = firing.trigger
        assert trigger is not None
        sound: dict[Request, bytes] = {}
        wrong: dict[Request, Failure] = {}
        for cause in firing.causes:
            try:
                sound[cause] = self._checked(cause, trigger, spec, invocation.started_s)
            except Failure as failure:
                wrong[cause] = failure
        self._part_with(firing, set(wrong) if sound else set(list(wrong)[1:]), spec)
        if not sound:
            (cause,) = firing.causes
            firing.topic = cause.topic
            invocation.arguments = self._recorder.event(cause.topic, b"")
            raise wrong[cause]
        if len(sound) == 1 and self._was_run(firing.function, trigger, next(iter(sound))):
            return None
        firing.payload = eventbody.call(trigger, sound)
        firing.body = eventbody.body(trigger, firing.payload, sound)
        invocation.arguments = self._recorder.event(firing.topic, firing.payload)
        return firing.body or firing.payload

    def concluded(self, firing: Firing) -> None:
        """A firing has its outcome: retained messages of it are not run again when they are shown again."""
        for cause in firing.causes:
            if cause.retain:
                self._retained.note(_memory(firing.function, cause), digest_of(cause.topic, cause.payload, None))

    def _part_with(self, firing: Firing, apart: set[Request], spec: FunctionSpec) -> None:
        """Have these messages of a batch recorded by themselves."""
        if not apart:
            return
        assert firing.trigger is not None
        target = Target(spec.name, firing.trigger, spec.limits.max_payload_bytes)
        for cause in firing.causes:
            if cause in apart:
                self._fire(target, [cause])
        self._arrived()
        firing.causes = tuple(cause for cause in firing.causes if cause not in apart)

    def _checked(self, cause: Request, trigger: Trigger, spec: FunctionSpec, now_s: float) -> bytes:
        """A message's payload as JSON; raises a `Failure` if it is not to be run."""
        self._loops.check(cause.chain, spec.name)
        check_time(cause, None, now_s)
        return eventbody.payload_text(trigger, cause, spec.limits.max_payload_bytes)

    def _was_run(self, function: str, trigger: Trigger, cause: Request) -> bool:
        if not cause.retain:
            return False
        digest = digest_of(cause.topic, cause.payload, None)
        if self._retained.was_run(_memory(function, cause), digest):
            return True
        if not self._shown_again or self._triggers.is_newcomer(function, trigger):
            return False
        return self._ledger.has_twin(cause, digest)


def _has_window(target: Target) -> bool:
    trigger = target.trigger
    return trigger.batch is not None or bool(trigger.debounce_s or trigger.throttle_s)


def _memory(function: str, cause: Request) -> str:
    return f"{function}:{cause.topic}"
