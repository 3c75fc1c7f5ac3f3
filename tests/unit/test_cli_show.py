"""Answers and progress in words."""

from __future__ import annotations

import io

import pytest

from tinyfaas.cli import records, show
from tinyfaas.cli.progress import Progress, bar_of, line_of
from tinyfaas.cli.terminal import width_of

INSTALLING = {"function": "hello", "phase": "install", "elapsed_s": 12.34, "line": "Collecting numpy"}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "shows_tables", lambda: True)


def test_elsewhere_columns_are_told_apart_by_tabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "shows_tables", lambda: False)
    assert show.table([("a", "long"), ("longer\tby far", "b")]) == "a\tlong\nlonger by far\tb"


def test_a_bar_grows_with_the_phases() -> None:
    bars = [bar_of({"phase": phase}) for phase in ("queued", "environment", "install", "import", "ready", "failed")]
    assert bars == ["[>       ]", "[==>     ]", "[====>   ]", "[======> ]", "[========]", "[>       ]"]


def test_functions_stand_in_columns() -> None:
    hello = {"function": "hello", "version": 3, "state": "ready", "calls": 120, "errors": 0, "warm": 1}
    other = {"function": "a", "version": 10, "state": "failing", "calls": 0, "errors": 0, "warm": 0, "reason": "r"}
    assert show.functions({"functions": ["hello", "a"], "details": [hello, other]}).splitlines() == [
        "FUNCTION  VERSION  STATE    CALLS  ERRORS  WARM  REASON",
        "hello     3        ready    120    0       1     -",
        "a         10       failing  0      0       0     r",
    ]


def test_a_server_that_tells_only_names_is_understood() -> None:
    assert show.functions({"functions": ["hello"]}) == "FUNCTION\nhello"


def test_no_functions_are_said_to_be_none() -> None:
    assert show.functions({"functions": [], "details": []}) == "no functions"


def test_info_has_a_line_for_each_thing() -> None:
    answer = {
        "function": "hello",
        "version": 2,
        "state": "ready",
        "versions": [{"version": 1, "uploaded": "T1", "digest": "ab" * 32}, {"version": 2, "uploaded": "T2"}],
        "config": {"timeout_s": 30.0, "retry": {"on": ["crashed"]}},
        "requirements": ["six==1.16.0", "numpy==2.0"],
    }
    assert show.info(answer).splitlines() == [
        "function      hello",
        "version       2",
        "state         ready",
        "requirements  six==1.16.0, numpy==2.0",
        'settings      timeout_s = 30.0, retry.on = ["crashed"]',
        "version 1     T1, digest abababababab",
        "version 2     T2, digest None, current",
    ]


def test_a_record_is_one_line_with_its_error_or_result() -> None:
    good = {"time_start": "T1", "status": "success", "duration_ms": 1.94, "id": "a1", "result": {"n": "x\ny"}}
    bad = {
        "time_start": "T2",
        "status": "error",
        "duration_ms": 1500.0,
        "id": "a2",
        "code": "crashed",
        "error": "by SIGSEGV",
    }
    assert records.records({"logs": [good, bad]}).splitlines() == [
        'T1  success  1.9 ms  a1  {"n": "x\\ny"}',
        "T2  error    1.5 s   a2  crashed: by SIGSEGV",
    ]


def test_a_long_result_is_cut_in_the_history() -> None:
    record = {"time_start": "T", "status": "success", "duration_ms": 1.0, "id": "a", "result": "x" * 5000}
    line = records.records({"logs": [record]})
    assert len(line) < 150
    assert line.endswith("…")


def test_a_record_that_lacks_keys_is_shown_all_the_same() -> None:
    assert records.records({"logs": [{}]}) == "-  -  -  -  null"


def test_status_has_a_line_for_each_part_with_units() -> None:
    answer = {
        "status": "running",
        "request_id": "r",
        "node": "pi-01",
        "version": "0.1.0",
        "uptime_s": 273_600.0,
        "memory": {"process_rss_bytes": 27_262_976, "used_percent": 12.0},
        "device": {"model": None, "temperature_c": 48.31},
        "mqtt": {"connected": True, "port": 1883},
    }
    assert show.status(answer).splitlines() == [
        "node    pi-01",
        "server  running, version 0.1.0, up 3 d 4 h",
        "memory  process rss 26 MiB, used 12 %",
        "device  temperature 48.3 °C",
        "mqtt    connected yes, port 1883",
    ]


@pytest.mark.parametrize(
    ("value_s", "text"),
    [(0.0421, "42.1 ms"), (1.25, "1.2 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_duration_is_told_in_units_that_suit(value_s: float, text: str) -> None:
    assert show.duration(value_s) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**41, "2 TiB")])
def test_a_size_is_told_in_units_that_suit(value: int, text: str) -> None:
    assert show.size(value) == text


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    answer = {"status": "error", "code": "crashed", "error": "\x1b[31mred\nline\x07\x9b"}
    assert show.failure(answer) == "crashed: �[31mred line��"


def test_behind_an_error_stands_the_traceback_line_by_line() -> None:
    traceback = 'Traceback (most recent call last):\n  File "func.py", line 1\nValueError: x\n'
    assert show.behind({"error": "ValueError: x", "traceback": traceback}) == traceback.rstrip("\n")


def test_behind_a_failed_build_stands_what_the_installer_said() -> None:
    assert show.behind({"error": "e", "code": "build_failed", "detail": "one\ntwo"}) == "one\ntwo"


def test_a_traceback_that_only_repeats_the_error_is_left_out() -> None:
    assert show.behind({"error": "TypeError: x", "traceback": "TypeError: x\n"}) == ""


def test_an_event_is_told_in_words() -> None:
    assert line_of(INSTALLING) == "hello: install, 12.3 s: Collecting numpy"
    assert line_of({"function": "hello", "phase": "queued"}) == "hello: queued"


def test_progress_elsewhere_is_a_line_for_each_event() -> None:
    stream = io.StringIO()
    progress = Progress(stream, width_of(stream))
    progress.show({"function": "hello", "phase": "queued"})
    progress.show({"function": "hello", "phase": "import"})
    progress.end()
    assert stream.getvalue() == "hello: queued\nhello: import\n"


def test_progress_on_a_terminal_is_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    progress = Progress(stream, width_of(stream))
    progress.show({"function": "hello", "phase": "queued"})
    progress.show(INSTALLING)
    progress.end()
    assert stream.getvalue() == "\r\x1b[Khello: queued\r\x1b[Khello: install, 12.\r\x1b[K"


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert width_of(Terminal()) == 0
