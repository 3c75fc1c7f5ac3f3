"""Records go to the journal in its own protocol, and a journal that is away, slow or full holds nobody up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.datagrams import JournalSocket, stream_of
from tinyfaas import journal
from tinyfaas.journal import MOST_WAITING_BYTES, Journal, render


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[JournalSocket]:
    """The journal's end."""
    there = JournalSocket(tmp_path / "socket")
    yield there
    if there.path.exists():
        there.close()


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Journal]:
    """The server's end."""
    here = Journal(tmp_path / "socket")
    yield here
    here.close()


def record(number: int, size: int = 0) -> bytes:
    """One record that can be told from others."""
    return render("info", {"event": "function_output", "line": f"{number}{'x' * size}"})


def numbers(records: list[dict[str, str]]) -> list[int]:
    """Which records these are."""
    return [int(each["MESSAGE"].rstrip("x")) for each in records]


def test_a_record_has_a_sentence_and_fields_of_its_own(listening: JournalSocket, writing: Journal) -> None:
    fields = {
        "room": "dispatch", "event": "invocation_done", "function": "thermostat", "version": 3,
        "invocation_id": "a1", "request_id": "r-17", "duration_ms": 2.1,
    }  # fmt: skip
    writing.write(render("info", fields))
    assert listening.read() == {
        "MESSAGE": "thermostat v3 answered in 2.1 ms",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "tinyfaas",
        "TINYFAAS_ROOM": "dispatch",
        "TINYFAAS_EVENT": "invocation_done",
        "TINYFAAS_FUNCTION": "thermostat",
        "TINYFAAS_VERSION": "3",
        "TINYFAAS_INVOCATION_ID": "a1",
        "TINYFAAS_REQUEST_ID": "r-17",
        "TINYFAAS_DURATION_MS": "2.1",
    }


def test_the_fields_of_a_functions_own_records_can_not_be_taken_for_the_servers(
    listening: JournalSocket, writing: Journal
) -> None:
    own = {"bed": 3, "function": "other", "priority": "0", "dry": True, "_pid": 1, "nothing": None}
    writing.write(render("info", {"event": "function_log", "line": "watered", "fields": own, "function": "garden"}))
    assert listening.read() == {
        "MESSAGE": "watered (bed=3, function=other, priority=0, dry=True, _pid=1, nothing=None)",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "tinyfaas",
        "TINYFAAS_EVENT": "function_log",
        "TINYFAAS_FUNCTION": "garden",
        "FIELD_BED": "3",
        "FIELD_FUNCTION": "other",
        "FIELD_PRIORITY": "0",
        "FIELD_DRY": "true",
        "FIELD__PID": "1",
        "FIELD_NOTHING": "None",
    }


def test_what_an_operator_should_know_has_the_identity_of_its_explanation(
    listening: JournalSocket, writing: Journal
) -> None:
    killed = {"event": "worker_killed", "function": "heavy", "version": 1, "reason": "130 MiB"}
    for code in ("timeout", "out_of_memory", "crashed"):
        writing.write(render("warning", {**killed, "code": code}))
    said = [listening.read() for _ in range(3)]
    assert len({each["MESSAGE_ID"] for each in said}) == 3
    assert said[1]["MESSAGE"] == "heavy v1 was killed, it used too much memory: 130 MiB"
    assert {each["PRIORITY"] for each in said} == {"4"}


@pytest.mark.parametrize("value", ["two\nlines", "\n", "", "ends with one\n", "PRIORITY=0\nX=1", "ä\n€"])
def test_a_value_may_hold_anything(listening: JournalSocket, writing: Journal, value: str) -> None:
    writing.write(render("error", {"event": "reload_refused", "error": value, "after": "it"}))
    got = listening.read()
    assert got["TINYFAAS_ERROR"] == value
    assert (got["TINYFAAS_AFTER"], got["PRIORITY"]) == ("it", "3")
    assert "X" not in got


def test_half_a_character_is_no_reason_to_lose_a_record(listening: JournalSocket, writing: Journal) -> None:
    writing.write(render("error", {"event": "reload_refused", "error": "\ud83d"}))
    assert listening.read()["TINYFAAS_ERROR"] == "\\ud83d"


def test_lists_truths_and_nothing_at_all_are_written_as_people_would(
    listening: JournalSocket, writing: Journal
) -> None:
    writing.write(render("info", {"event": "x", "applied": ["a", "b"], "connected": True, "version": None}))
    got = listening.read()
    assert (got["TINYFAAS_APPLIED"], got["TINYFAAS_CONNECTED"]) == ("a b", "true")
    assert "TINYFAAS_VERSION" not in got


def test_a_record_too_large_for_a_datagram_arrives_whole(listening: JournalSocket, writing: Journal) -> None:
    writing.write(record(7, size=8_000_000))
    assert listening.read()["MESSAGE"] == "7" + "x" * 8_000_000


def test_a_journal_that_is_away_gets_the_records_when_it_is_back(tmp_path: Path, writing: Journal) -> None:
    for number in range(3):
        writing.write(record(number))
    back = JournalSocket(tmp_path / "socket")
    assert writing.flush() == 0
    writing.write(record(3))
    assert numbers(back.read_all()) == [0, 1, 2, 3]
    back.close()


def test_a_journal_that_was_restarted_is_found_again(listening: JournalSocket, writing: Journal) -> None:
    writing.write(record(0))
    assert numbers([listening.read()]) == [0]
    listening.close()
    writing.write(record(1))
    again = JournalSocket(listening.path)
    writing.write(record(2))
    assert numbers(again.read_all()) == [1, 2]
    again.close()


def test_a_journal_that_reads_nothing_blocks_nobody_and_what_is_lost_is_counted(
    listening: JournalSocket, writing: Journal
) -> None:
    size, count = 10_000, 1_000
    started_s = time.monotonic()
    for number in range(count):
        writing.write(record(number, size))
    assert time.monotonic() - started_s < 10.0
    assert writing._waiting_bytes <= MOST_WAITING_BYTES
    assert writing.flush() == 0  # it is not back yet
    got: list[int] = []
    lost = 0
    while fresh := numbers(listening.read_all()):
        got += fresh
        lost += writing.flush()
    assert got == list(range(len(got)))
    assert len(got) >= MOST_WAITING_BYTES // (size + 200)
    assert lost == count - len(got)
    assert writing.flush() == 0  # said once


def test_the_journal_is_recognised_by_its_stream(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "other").open("w") as other:
        fd = stream.fileno()
        assert journal.under_systemd(fd, {"JOURNAL_STREAM": stream_of(fd)})
        assert not journal.under_systemd(other.fileno(), {"JOURNAL_STREAM": stream_of(fd)})  # as in `… 2> file`
        assert not journal.under_systemd(fd, {})
    assert not journal.under_systemd(fd, {"JOURNAL_STREAM": "1:2"})
