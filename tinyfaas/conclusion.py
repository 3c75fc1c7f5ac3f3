"""From an outcome to everything that comes of it: the record, the answer, what else is published, a dead letter."""

from __future__ import annotations

from collections.abc import Callable

from tinyfaas import log
from tinyfaas.deadletters import DeadLetters
from tinyfaas.delivery import Ledger, digest_of
from tinyfaas.effects import Effects
from tinyfaas.errors import Failure
from tinyfaas.feed import Feed
from tinyfaas.loops import Loops
from tinyfaas.model import Answer, Firing, Invocation, Request, Result
from tinyfaas.protocol import Topics, encode, parse_object
from tinyfaas.recorder import Recorder
from tinyfaas.registry import Registry
from tinyfaas.retained import Retained

logger = log.get("dispatch")

SILENCE = Answer("", b"")


class Conclusion:
    """`publish` sends what answers nobody."""

    def __init__(
        self, topics: Topics, registry: Registry, ledger: Ledger, recorder: Recorder, dead_letters: DeadLetters,
        retained: Retained, loops: Loops, feed: Feed, publish: Callable[[str, bytes], None],
    ) -> None:  # fmt: skip
        self._topics = topics
        self._registry = registry
        self._ledger = ledger
        self._recorder = recorder
        self._dead_letters = dead_letters
        self._retained = retained
        self._effects = Effects(loops, topics.error)
        self._feed = feed
        self._publish = publish

    def answer(self, invocation: Invocation, outcome: Result | Failure) -> Answer:
        """The recorded answer of an outcome, ready to be published."""
        answer = self._recorder.answer(invocation, outcome)
        self._conclude(invocation, outcome, answer)
        request, spec = invocation.request, invocation.spec
        if not (request.chain or isinstance(request, Firing) or (spec is not None and spec.wiring.output is not None)):
            return answer  # as most calls are: nobody but the caller hears of it
        return self._effects.added(answer, request, spec, outcome.json if isinstance(outcome, Result) else None)

    def refusal(self, invocation: Invocation, failure: Failure) -> Answer:
        """The answer to a request that may not be held; it is not recorded."""
        return self._effects.added(self._recorder.refusal(invocation, failure), invocation.request, None, None)

    def unrun(self, invocation: Invocation, failure: Failure) -> Answer:
        """The recorded answer to a request that was held and will not run."""
        return self._recorder.answer(invocation, failure)

    def forget(self, function: str) -> None:
        """Forget what is remembered of a deleted function."""
        self._effects.forget(function)

    def answered_before(self, request: Request) -> Answer | None:
        """The answer of a request that had it already when it was delivered; None of any other."""
        if isinstance(request, Firing):
            return (self.answer_again(request) or SILENCE) if request.recorded else None
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

    def _conclude(self, invocation: Invocation, outcome: Result | Failure, answer: Answer) -> None:
        """What else an outcome asks for: a dead letter, one less, a retained message that has been run."""
        request, spec = invocation.request, invocation.spec
        if isinstance(request, Firing):
            self._feed.concluded(request)
        if request.retain:
            self._retained.note(request.topic, digest_of(request.topic, request.payload, None))
        given_up = isinstance(outcome, Failure) and spec is not None and outcome.code in spec.retry.on
        if given_up and spec is not None and (spec.retry.attempts > 1 or request.letter):
            body = request.body if isinstance(request, Firing) else b""
            self._dead_letters.keep(request.function, invocation.id, request.payload, body)
            head, payload = (answer.payload or answer.error_payload)[:-1], encode(parse_object(request.payload))
            letter = head + b',"payload":' + payload + b"}"
            self._publish(self._topics.deadletter(request.function), letter)
        if request.letter is not None:
            request.letter.unlink(missing_ok=True)
