"""The ledger tells new requests from those that the broker delivers again."""

from __future__ import annotations

from pathlib import Path

from tinyfaas.config import History as HistorySettings
from tinyfaas.config import Queue
from tinyfaas.delivery import Admission, Ledger, digest_of
from tinyfaas.history import History
from tinyfaas.model import Firing, Request


def ledger_in(folder: Path, **bounds: int) -> tuple[Ledger, History]:
    """A ledger and the history behind it."""
    history = History(folder / "logs.json", HistorySettings())
    answered = history.load()
    ledger = Ledger(Queue(**bounds), history, folder)
    ledger.restore(answered)
    return ledger, history


def request(mid: int, payload: bytes = b"{}", *, dup: bool = False, qos: int = 1) -> Request:
    """A request as a connection makes it."""
    topic = "faas/invoke/f"
    return Request(topic, payload, qos=qos, mid=mid, dup=dup, digest=digest_of(topic, payload, None), function="f")


def test_a_redelivery_joins_the_request_that_is_held(tmp_path: Path) -> None:
    ledger, _ = ledger_in(tmp_path)
    first, again = request(1), request(1, dup=True)
    again.epoch = 2
    assert ledger.admit(first) == (Admission.NEW, first)
    assert ledger.admit(again) == (Admission.JOINED, first)
    assert first.epoch == 2
    assert ledger.count == 1


def test_the_same_payload_with_another_packet_id_is_a_new_request(tmp_path: Path) -> None:
    ledger, _ = ledger_in(tmp_path)
    ledger.admit(request(1))
    assert ledger.admit(request(2))[0] is Admission.NEW
    assert ledger.admit(request(1, b'{"args":[1]}', dup=True))[0] is Admission.NEW


def test_an_answered_request_is_recognised_after_a_restart(tmp_path: Path) -> None:
    ledger, history = ledger_in(tmp_path)
    ledger.resume(session_present=False)
    first = request(5)
    ledger.admit(first)
    line = b'{"id":"x","function":"f","status":"success","result":1,"args":[],"delivery":"%s"}'
    history.append("f", line % ledger.key(first).encode(), failed=False)
    ledger.note_answered(first)
    restarted, _ = ledger_in(tmp_path)
    restarted.resume(session_present=True)
    again = request(5, dup=True)
    restarted.admit(again)
    assert restarted.was_answered(again)
    assert restarted.recorded_answer(again) == b'{"id":"x","function":"f","status":"success","result":1}'


def test_a_new_request_that_looks_like_an_answered_one_is_run_also_over_a_restart(tmp_path: Path) -> None:
    ledger, history = ledger_in(tmp_path)
    ledger.resume(session_present=False)
    first = request(5)
    ledger.admit(first)
    line = b'{"id":"x","function":"f","status":"success","result":1,"args":[],"delivery":"%s"}'
    history.append("f", line % ledger.key(first).encode(), failed=False)
    ledger.note_answered(first)
    ledger.settle(first)
    ledger.admit(request(5))  # the broker gave the packet id to an equal, new message
    restarted, _ = ledger_in(tmp_path)
    restarted.resume(session_present=True)
    again = request(5, dup=True)
    restarted.admit(again)
    assert not restarted.was_answered(again)


def test_in_a_new_session_nothing_is_taken_for_a_redelivery(tmp_path: Path) -> None:
    ledger, _ = ledger_in(tmp_path)
    ledger.resume(session_present=False)
    first = request(5)
    ledger.admit(first)
    ledger.note_answered(first)
    ledger.resume(session_present=False)
    again = request(5, dup=True)
    assert first.mid == 0
    assert ledger.admit(again)[0] is Admission.NEW
    assert not ledger.was_answered(again)


def test_beyond_the_bounds_qos_0_is_refused_and_qos_1_stops_the_reading(tmp_path: Path) -> None:
    ledger, _ = ledger_in(tmp_path, max_requests=2)
    held = request(0, qos=0)
    ledger.admit(held)
    ledger.admit(request(1))
    assert ledger.full()
    assert ledger.admit(request(0, qos=0))[0] is Admission.REFUSED
    ledger.settle(held)
    assert not ledger.full()


def test_a_large_answer_is_kept_until_its_request_is_settled(tmp_path: Path) -> None:
    ledger, _ = ledger_in(tmp_path)
    ledger.resume(session_present=False)
    first = request(5)
    ledger.admit(first)
    ledger.keep_answer(first, b"large")
    ledger.note_answered(first)
    assert ledger.recorded_answer(request(5, dup=True)) == b"large"
    ledger.settle(first)
    assert list(tmp_path.glob("*.5.*")) == []


# --- messages that call functions ---------------------------------------------------------------------------------


def message(mid: int, *, calls: int, dup: bool = False, payload: bytes = b"1") -> Request:
    """A message that calls so many functions."""
    topic = "sensors/a"
    digest = digest_of(topic, payload, None)
    return Request(topic, payload, 1, mid, dup, digest=digest, firings=calls, unrecorded=calls)


def record(ledger: Ledger, history: History, function: str, *causes: Request) -> None:
    """Write a function's line for these messages."""
    line = b'{"id":"x","function":"%s","status":"success","result":[1],"trigger":"t","args":[1]' % function.encode()
    firing = Firing("sensors/a", b"", function=function, causes=causes)
    ledger.record_firing(firing, lambda keys: history.append(function, line + keys + b"}", failed=False))


def restarted(folder: Path) -> Ledger:
    """The ledger of the next start."""
    ledger, _ = ledger_in(folder)
    ledger.resume(session_present=True)
    return ledger


def test_of_a_message_that_calls_several_it_is_known_after_a_crash_who_has_run(tmp_path: Path) -> None:
    ledger, history = ledger_in(tmp_path)
    ledger.resume(session_present=False)
    one = message(5, calls=3)
    ledger.admit(one)
    record(ledger, history, "f", one)
    record(ledger, history, "g", one)
    again = message(5, calls=3, dup=True)
    for each in (ledger, restarted(tmp_path)):
        assert [each.was_recorded(again, function) for function in ("f", "g", "h")] == [True, True, False]
        assert not each.was_recorded(message(5, calls=3), "f")  # a new one that says the same
        assert not each.was_recorded(message(5, calls=3, dup=True, payload=b"2"), "f")
    record(ledger, history, "h", one)
    for each in (ledger, restarted(tmp_path)):
        assert all(each.was_recorded(again, function) for function in ("f", "g", "h"))
        assert each.was_answered(again)


def test_a_batch_is_known_by_each_of_its_messages(tmp_path: Path) -> None:
    ledger, history = ledger_in(tmp_path)
    ledger.resume(session_present=False)
    whole, part, unkept = message(1, calls=1), message(2, calls=2), message(0, calls=1)
    record(ledger, history, "f", unkept, whole, part)
    for each in (ledger, restarted(tmp_path)):
        assert each.was_recorded(message(1, calls=1, dup=True), "f")
        assert each.was_recorded(message(2, calls=2, dup=True), "f")
        assert not each.was_recorded(message(2, calls=2, dup=True), "g")
    lead, other = (
        Firing("sensors/a", b"", function="f", causes=(message(mid, calls=1, dup=True),), recorded=True)
        for mid in (1, 2)
    )
    assert ledger.recorded_firing(lead) == b'{"id":"x","function":"f","status":"success","result":[1]}'
    assert ledger.recorded_firing(other) is None  # or what the batch published would come once for each


def test_a_message_whose_others_were_dropped_counts_as_answered_once_it_is_acknowledged(tmp_path: Path) -> None:
    ledger, history = ledger_in(tmp_path)
    ledger.resume(session_present=False)
    one = message(5, calls=2)
    ledger.admit(one)
    record(ledger, history, "f", one)
    ledger.settle(one)
    assert ledger.was_answered(message(5, calls=2, dup=True))
    assert ledger.count == 0


def test_a_new_message_with_the_key_of_one_before_calls_everyone(tmp_path: Path) -> None:
    ledger, history = ledger_in(tmp_path)
    ledger.resume(session_present=False)
    for _ in range(2):
        one = message(5, calls=2)
        ledger.admit(one)
        assert not ledger.was_recorded(one, "f")
        record(ledger, history, "f", one)
        record(ledger, history, "g", one)
        ledger.settle(one)
    ledger.admit(message(5, calls=2))
    assert not restarted(tmp_path).was_recorded(message(5, calls=2, dup=True), "f")


def test_a_function_cant_forge_what_was_delivered(tmp_path: Path) -> None:
    ledger, history = ledger_in(tmp_path)
    ledger.resume(session_present=False)
    key = ledger.key(message(5, calls=1)).encode()
    forged = b'{"function":"f","status":"success","result":1,"args":[{"deliveries":["%s"],"partly":["%s"]}]}' % (
        key,
        key,
    )
    history.append("f", forged, failed=False)
    assert not restarted(tmp_path).was_recorded(message(5, calls=1, dup=True), "f")
