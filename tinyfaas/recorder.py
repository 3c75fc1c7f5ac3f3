"""Turns an outcome into the answer that goes out and the line that the history keeps, in this order of certainty:
first it is recorded, then it is handed out to be published.

Answers are put together from JSON texts, not from objects: a worker's result is checked, but never encoded again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tinyfaas import log
from tinyfaas.allowance import Allowance
from tinyfaas.delivery import Ledger
from tinyfaas.errors import BadRequest, Failure
from tinyfaas.history import History
from tinyfaas.model import FUNCTION_NAME, Answer, Firing, Invocation, Request, Result
from tinyfaas.protocol import Topics, encode, error_keys, iso_time

logger = log.get("dispatch")

Outcome = Result | Failure


class Recorder:
    """Writes answers in the name of one node. `cut_bytes` is what the history keeps of arguments and of results;
    `known` says whether there is a function: a call that outlives its function leaves no record.
    """

    def __init__(
        self, node: str, topics: Topics, history: History, ledger: Ledger, cut_bytes: int, known: Callable[[str], bool],
        successes_per_s: float,
    ) -> None:  # fmt: skip
        self._node_json = encode(node)
        self._known = known
        self._topics = topics
        self._history = history
        self._ledger = ledger
        self._cut_bytes = cut_bytes
        self._shown = Allowance(successes_per_s)
        self._unshown = 0

    def reload(self, successes_per_s: float) -> None:
        """Show so many successes a second in the log from now on."""
        self._shown.per_s = successes_per_s

    def say_unshown(self) -> None:
        """Log how many successes were not logged one by one; called now and then."""
        if self._unshown:
            count, self._unshown = self._unshown, 0
            logger.info("successes_unshown", count=count)

    def arguments(self, body: dict[str, object]) -> bytes:
        """What the history keeps of a request's arguments, as further keys of its record. Raises `BadRequest`."""
        try:
            args, kwargs = encode(body.get("args", [])), encode(body.get("kwargs", {}))
        except (ValueError, RecursionError):  # 1e999 is JSON, but no float
            raise BadRequest("the arguments hold a number too large for a float, or are nested too deeply") from None
        text = b',"args":' + self._cut(args)
        if kwargs != b"{}":
            text += b',"kwargs":' + self._cut(kwargs)
        return text + _CUT if max(len(args), len(kwargs)) > self._cut_bytes else text

    def event(self, topic: str, call: bytes) -> bytes:
        """What the history keeps of a call that a trigger made: its topic, and `call`, which is `{"args":[…]}`."""
        text = b',"trigger":%s' % encode(topic)
        if not call:
            return text
        args = call[len(b'{"args":') : -1]
        text += b',"args":' + self._cut(args)
        return text + _CUT if len(args) > self._cut_bytes else text

    def answer(self, invocation: Invocation, outcome: Outcome) -> Answer:
        """Record the outcome and return its answer."""
        ended_s = invocation.ended_s or time.monotonic()
        head, tail = self._head(invocation), _tail(invocation, outcome, ended_s)
        payload = b"{" + head + _middle(outcome) + tail + b"}"
        if invocation.spec is not None and self._known(invocation.request.function):
            self._record(invocation, outcome, payload, head, tail)
        self._ledger.note_answered(invocation.request)
        self._log(invocation, outcome, ended_s)
        return self.addressed(invocation.request, payload, failed=isinstance(outcome, Failure))

    def refusal(self, invocation: Invocation, failure: Failure) -> Answer:
        """The answer to a request that may not be held. Not recorded: there may be thousands a second."""
        tail = _tail(invocation, failure, invocation.started_s)
        payload = b"{" + self._head(invocation) + _middle(failure) + tail + b"}"
        return self.addressed(invocation.request, payload, failed=True)

    def addressed(self, request: Request, payload: bytes, *, failed: bool) -> Answer:
        """The answer with the topic it goes to; on the error topic it carries topic and command of the request."""
        if isinstance(request, Firing) or request.schedule:  # nobody has asked
            by = b"schedule" if request.schedule else b"trigger"
            return Answer("", b"", payload[:-1] + b',"topic":%s,"command":"%s"}' % (encode(request.topic), by)
                          if failed else b"")  # fmt: skip
        topic = request.response_topic
        if not topic and FUNCTION_NAME.fullmatch(request.function):
            topic = self._topics.invoke_answer(request.function)
        if not failed:
            return Answer(topic, payload)
        return Answer(topic, payload, payload[:-1] + b',"topic":%s,"command":"invoke"}' % encode(request.topic))

    def _record(self, invocation: Invocation, outcome: Outcome, payload: bytes, head: bytes, tail: bytes) -> None:
        request = invocation.request
        line = payload[:-1] + invocation.arguments
        if isinstance(outcome, Result) and len(outcome.json) > self._cut_bytes:
            shown = b'"status":"success","result":' + self._cut(outcome.json)
            line = b"{" + head + shown + tail + invocation.arguments.removesuffix(_CUT) + _CUT
        if line.endswith(_CUT):  # a record that is cut is no answer to a redelivery
            self._ledger.keep_answer(request, payload)
        failed = isinstance(outcome, Failure)
        if isinstance(request, Firing):
            self._ledger.record_firing(
                request, lambda keys: self._history.append(request.function, line + keys + b"}", failed=failed)
            )
            return
        if request.mid:
            line += b',"delivery":"%s"' % self._ledger.key(request).encode()
        self._history.append(request.function, line + b"}", failed=failed)

    def _log(self, invocation: Invocation, outcome: Outcome, ended_s: float) -> None:
        failed = {"code": outcome.code, "error": outcome.message} if isinstance(outcome, Failure) else {}
        if failed:
            say = logger.warning
        elif self._shown.take():
            say = logger.info
        else:  # a journal that wrote thousands a second would wear out the card
            self._unshown += 1
            say = logger.debug
        version = {"version": invocation.spec.version} if invocation.spec else {}
        say("invocation_done", function=invocation.request.function, invocation_id=invocation.id,
            request_id=invocation.request_id or invocation.id,
            duration_ms=round((ended_s - invocation.started_s) * 1000, 2), **version, **failed)  # fmt: skip

    def _head(self, invocation: Invocation) -> bytes:
        spec, request_id = invocation.spec, invocation.request_id or invocation.id
        return b'"id":"%s","request_id":%s,"function":%s,"version":%s,"node":%s,' % (
            invocation.id.encode(), encode(request_id), encode(invocation.request.function),
            b"null" if spec is None else b"%d" % spec.version, self._node_json,
        )  # fmt: skip

    def _cut(self, text: bytes) -> bytes:
        """A JSON text as it is, or the beginning of it as a JSON string."""
        if len(text) <= self._cut_bytes:
            return text
        return encode(text[: self._cut_bytes].decode("utf-8", "ignore") + "…")


_CUT = b',"cut":true'


def _middle(outcome: Outcome) -> bytes:
    if isinstance(outcome, Result):
        return b'"status":"success","result":' + outcome.json
    return encode(error_keys(outcome))[1:-1]


def _tail(invocation: Invocation, outcome: Outcome, ended_s: float) -> bytes:
    duration_s = ended_s - invocation.started_s
    text = b',"time_start":"%s","time_end":"%s","duration_ms":%.2f,"queued_ms":%.2f,"cold":%s' % (
        iso_time(invocation.started_wall_s).encode(), iso_time(invocation.started_wall_s + duration_s).encode(),
        duration_s * 1000, (invocation.started_s - invocation.request.received_s) * 1000,
        b"true" if outcome.cold else b"false",
    )  # fmt: skip
    if invocation.attempts > 1:
        text += b',"attempts":%d' % invocation.attempts
    if invocation.request.schedule:
        text += b',"schedule":' + encode(invocation.request.schedule)
    return text
