"""The history: appended to, trimmed beside, and read again after anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tinyfaas.config import History as Settings
from tinyfaas.history import History
from tinyfaas.protocol import LogsQuery

ALL = LogsQuery(1000, "", "")


def opened(path: Path, **settings: int) -> History:
    """A history in a file of the test's own."""
    history = History(path / "logs.json", Settings(**settings))
    history.load()
    return history


def record(number: int, function: str = "f", status: str = "success", **more: object) -> bytes:
    """A line as the recorder writes it."""
    keys = {
        "id": str(number),
        "function": function,
        "status": status,
        "time_start": f"2026-01-01T00:00:{number:02d}.000Z",
    }
    return json.dumps({**keys, **more}, separators=(",", ":")).encode()


def test_what_was_appended_is_read_again_after_a_restart(tmp_path: Path) -> None:
    history = opened(tmp_path)
    for number in range(5):
        history.append("f", record(number), failed=False)
    history.append("g", record(9, "g", "error"), failed=True)
    again = opened(tmp_path)
    assert [each["id"] for each in again.read("f", ALL)] == ["0", "1", "2", "3", "4"]
    assert (again.totals("g").calls, again.totals("g").errors) == (1, 1)


def test_a_torn_last_line_is_dropped_and_nothing_else(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.append("f", record(1), failed=False)
    with (tmp_path / "logs.json").open("ab") as file:
        file.write(record(2)[:-7])
    again = opened(tmp_path)
    again.append("f", record(3), failed=False)
    assert [each["id"] for each in again.read("f", ALL)] == ["1", "3"]


def test_garbage_between_records_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "logs.json").write_bytes(record(1) + b"\n\0\xff{{\n" + record(2) + b"\n")
    assert [each["id"] for each in opened(tmp_path).read("f", ALL)] == ["1", "2"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (LogsQuery(2, "", ""), ["3", "4"]),
        (LogsQuery(100, "error", ""), ["1", "3"]),
        (LogsQuery(100, "", "2026-01-01T00:00:03.000Z"), ["3", "4"]),
    ],
)
def test_records_are_filtered_newest_last(tmp_path: Path, query: LogsQuery, ids: list[str]) -> None:
    history = opened(tmp_path)
    for number in range(5):
        history.append("f", record(number, status="error" if number % 2 else "success"), failed=bool(number % 2))
    assert [each["id"] for each in history.read("f", query)] == ids


def test_trimming_keeps_the_newest_of_each_function_and_all_totals(tmp_path: Path) -> None:
    history = opened(tmp_path, per_function=3, recent=100, max_bytes=65_536)
    for number in range(5):
        history.append("quiet", record(number, "quiet"), failed=False)
    while (tmp_path / "logs.json").stat().st_size <= 65_536:
        history.append("busy", record(7, "busy"), failed=False)
    calls = history.totals("busy").calls
    history.tidy()
    again = opened(tmp_path)
    assert [each["id"] for each in again.read("quiet", ALL)] == ["2", "3", "4"]
    assert len(again.read("busy", ALL)) == 100
    assert (again.totals("busy").calls, again.totals("quiet").calls) == (calls, 5)


def test_nothing_of_a_forgotten_function_stays(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.append("f", record(1), failed=False)
    history.append("g", record(2, "g"), failed=False)
    history.forget("f")
    assert b'"function":"f"' not in (tmp_path / "logs.json").read_bytes()
    assert [each["id"] for each in history.read("g", ALL)] == ["2"]
    assert history.totals("f").calls == 0


def test_an_answer_is_found_by_its_delivery_until_a_new_request_takes_that_over(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.begin_session()
    key = f"{history.session}.7.00000000000000ff"
    history.append("f", record(1, args=[1])[:-1] + b',"delivery":"%s"}' % key.encode(), failed=False)
    assert history.answer_to(key) == {"id": "1", "function": "f", "status": "success", "time_start": record_time(1)}
    history.note_received(key)
    assert history.answer_to(key) is None


def record_time(number: int) -> str:
    """When a record of these tests began."""
    return f"2026-01-01T00:00:{number:02d}.000Z"


def test_what_was_answered_in_the_present_session_is_known_after_a_restart(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.begin_session()
    old = history.session
    history.append("f", record(1)[:-1] + b',"delivery":"%s.7.00ff"}' % old.encode(), failed=False)
    assert History(tmp_path / "logs.json", Settings()).load() == {7: 255}
    history.begin_session()
    history.append("f", record(2)[:-1] + b',"delivery":"%s.8.00ff"}' % history.session.encode(), failed=False)
    assert History(tmp_path / "logs.json", Settings()).load() == {8: 255}
