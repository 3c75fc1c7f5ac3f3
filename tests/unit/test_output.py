"""What functions print is bounded for each call and over time, and what is not shown is counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tinyfaas import allowance, log, output
from tinyfaas.output import Output


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """All records from now on; functions have not printed anything before."""
    records: list[dict[str, Any]] = []
    kept = list(log._outlet.processors), log._outlet.write
    log._outlet.processors[:] = [lambda _logger, _level, fields: ((dict(fields),), {})]
    log._outlet.write = records.append
    output._meters._meters.clear()
    yield records
    log._outlet.processors[:], log._outlet.write = kept
    output._meters._meters.clear()
    output.limit(16_384.0)


class Printing:
    """A worker's stdout."""

    def __init__(self, function: str) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self.output = Output(function, 1, {self._read: "stdout"}, 65_536)

    def call(self, invocation: str, *texts: str) -> None:
        """A call that prints this."""
        self.output.begin(invocation)
        for text in texts:
            os.write(self._write, text.encode())
            self.output.read(self._read)
        self.output.end()

    def close(self) -> None:
        """Its end."""
        os.close(self._read)
        os.close(self._write)


def lines(records: list[dict[str, Any]]) -> list[str]:
    """The lines that were shown."""
    return [each["line"] for each in records if each["event"] == "function_output"]


def dropped(records: list[dict[str, Any]]) -> int:
    """The bytes that were counted instead."""
    return sum(each["bytes"] for each in records if each["event"] == "function_output_dropped")


def test_a_line_belongs_to_its_call_and_to_the_request_behind_it(shown: list[dict[str, Any]]) -> None:
    worker = Printing("f")
    log.about(request_id="r-1")
    worker.call("a1", "one\ntw", "o\nend")
    log.about()
    assert lines(shown) == ["one", "two", "end"]
    assert {(each["invocation_id"], each["request_id"], each["stream"]) for each in shown} == {("a1", "r-1", "stdout")}
    worker.close()


def test_a_function_that_prints_on_and_on_is_shown_so_much_and_counted(
    shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr("tinyfaas.allowance.time.monotonic", lambda: now_s[0])
    output.limit(1_000.0)
    worker, quiet = Printing("loud"), Printing("quiet")
    for number in range(100):
        worker.call(f"a{number}", ("x" * 99 + "\n") * 10)
    saved_up = int(1_000 * allowance.SAVED_UP_S / (99 + 100))
    assert len(lines(shown)) == saved_up
    quiet.call("b1", "heard\n")
    assert lines(shown)[-1] == "heard"  # each function has its own
    assert len([each for each in shown if each["event"] == "function_output_dropped"]) == 1  # not at every call
    now_s[0] += 10.0
    output.tidy()
    assert dropped(shown) == (1_000 - saved_up) * 100
    worker.call("c1", "again\n")
    assert lines(shown)[-1] == "again"
    for each in (worker, quiet):
        each.close()


def test_a_function_that_has_been_quiet_is_forgotten(
    shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr("tinyfaas.allowance.time.monotonic", lambda: now_s[0])
    worker = Printing("f")
    worker.call("a1", "one\n")
    output.tidy()
    assert list(output._meters._meters) == ["f"]
    now_s[0] += 60.0
    output.tidy()
    assert output._meters._meters == {}
    worker.close()
