"""The ledger tells new requests from those that the broker delivers again."""

from __future__ import annotations

from pathlib import Path

from tinyfaas.config import History as HistorySettings
from tinyfaas.config import Queue
from tinyfaas.delivery import Admission, Ledger, digest_of
from tinyfaas.history import History
from tinyfaas.model import Request


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
