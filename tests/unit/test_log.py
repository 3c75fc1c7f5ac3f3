"""Which records are shown, what each renderer makes of them, and that every event is known by its name."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.datagrams import JournalSocket
from tinyfaas import events, journal, log
from tinyfaas.config import Log
from tinyfaas.events import EVENTS
from tinyfaas.journal import Journal

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "deploy/systemd/tinyfaas.catalog"
OF_EVERY_RECORD = {"request_id"}  # what is told of a thread's work


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The log of other tests stays what it was."""
    outlet = log._outlet
    kept = (list(outlet.processors), outlet.write, outlet.journal, outlet.least)
    yield
    if outlet.journal is not None:
        outlet.journal.close()
    outlet.processors[:], outlet.write, outlet.journal, outlet.least = kept
    log.about()


def lines(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> io.StringIO:
    """What is written from now on."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    log.configure(Log(**settings))
    return written


def records(written: io.StringIO) -> list[dict[str, Any]]:
    """What was written, as records."""
    return [json.loads(line) for line in written.getvalue().splitlines()]


# --- levels ----------------------------------------------------------------------------------------------------------


def test_a_module_and_a_function_may_have_levels_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    written = lines(monkeypatch, format="json", levels=("gateway=debug", "pool=error", "function.loud=warning"))
    log.get("gateway").debug("connected", shown=1)
    log.get("dispatch").debug("ready", shown=0)
    log.get("dispatch").info("ready", shown=1)
    log.get("pool").warning("worker_killed", shown=0)
    log.get("dispatch").info("invocation_done", function="loud", shown=0)
    log.get("dispatch").warning("invocation_done", function="loud", shown=1)
    log.get("dispatch").info("invocation_done", function="other", shown=1)
    log.get("pool").warning("worker_killed", function="loud", shown=1)  # the function's goes before the module's
    assert [record["shown"] for record in records(written)] == [1] * 5


def test_levels_change_for_loggers_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    written = lines(monkeypatch, format="json")
    logger = log.get("gateway")
    logger.debug("connected")
    log.set_levels(Log(level="debug"))
    logger.debug("connected")
    assert len(records(written)) == 1


# --- what is written -------------------------------------------------------------------------------------------------


def test_an_error_says_where_it_was_said_and_with_which_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    written = lines(monkeypatch, format="json")
    try:
        raise ValueError("it broke")
    except ValueError:
        log.get("watch").exception("watch_failed", function="f")
    (record,) = records(written)
    assert (record["level"], record["event"], record["function"]) == ("error", "watch_failed", "f")
    assert record["exception"].endswith("ValueError: it broke")
    assert record["code_file"].endswith("test_log.py")
    assert record["code_line"] > 1


def test_all_records_of_a_request_tell_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    written = lines(monkeypatch, format="json")
    log.about(request_id="r-1")
    log.get("pool").info("ready")
    log.about()
    log.get("pool").info("ready")
    assert [record.get("request_id") for record in records(written)] == ["r-1", None]


def test_people_get_sentences_and_what_those_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    written = lines(monkeypatch, format="terminal")
    log.get("dispatch").info("invocation_done", function="thermostat", version=3, duration_ms=2.1, request_id="r-1")
    text = written.getvalue()
    assert "thermostat v3 answered in 2.1 ms" in text
    assert "request_id=r-1" in text
    assert "duration_ms=" not in text


def test_the_journal_gets_tracebacks_in_the_message_and_file_and_line_in_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = JournalSocket(tmp_path / "socket")
    monkeypatch.setattr(log, "Journal", lambda: Journal(there.path))
    log.configure(Log(format="journal"))
    try:
        raise ValueError("it broke")
    except ValueError:
        log.get("watch").exception("watch_failed", function="f", version=2)
    got = there.read()
    first, *rest = got["MESSAGE"].splitlines()
    assert first == "a fault of the server's own in the watch over f v2"
    assert rest[-1] == "ValueError: it broke"
    assert got["CODE_FILE"].endswith("test_log.py")
    assert int(got["CODE_LINE"]) > 1
    assert "TINYFAAS_EXCEPTION" not in got
    there.close()


def test_what_the_journal_lost_is_said_once_it_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "Journal", lambda: Journal(tmp_path / "socket"))
    monkeypatch.setattr(journal, "MOST_WAITING_BYTES", 1_000)
    log.configure(Log(format="journal"))
    for _ in range(100):
        log.get("daemon").info("stopped")
    back = JournalSocket(tmp_path / "socket")
    log.flush()
    log.flush()
    said = back.read_all()
    while fresh := back.read_all():
        said += fresh
        log.flush()
    (lost,) = [each for each in said if each["TINYFAAS_EVENT"] == "log_records_dropped"]
    assert int(lost["TINYFAAS_COUNT"]) == 100 - (len(said) - 1)
    assert lost["PRIORITY"] == "4"
    back.close()


@pytest.mark.parametrize(
    ("stream", "environ", "style"), [("file", True, "_journal"), ("file", False, "_json")], ids=["systemd", "elsewhere"]
)
def test_it_chooses_by_itself_where_records_go(stream: str, environ: bool, style: str) -> None:
    program = (
        "import os; from tinyfaas import log; from tinyfaas.config import Log\n"
        "status = os.fstat(2)\n"
        f"if {environ}: os.environ['JOURNAL_STREAM'] = f'{{status.st_dev}}:{{status.st_ino}}'\n"
        "log.configure(Log())\n"
        "print(log._outlet.processors[-1].__qualname__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith(style)


# --- every event is known --------------------------------------------------------------------------------------------


def calls() -> Iterator[tuple[str, str, set[str], bool]]:
    """Every event that is said somewhere: where, its name, the fields by name, and whether there may be others."""
    for file in sorted((ROOT / "tinyfaas").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="debug" | "info" | "warning" | "error" | "exception") | ast.Name(id="say"),
                    args=[ast.Constant(value=str(name))],
                    keywords=keywords,
                ):
                    named = {keyword.arg for keyword in keywords if keyword.arg}
                    yield f"{file.name}:{node.lineno}", name, named, any(not keyword.arg for keyword in keywords)


def test_every_event_that_is_said_is_listed_with_a_sentence_and_every_listed_one_is_said() -> None:
    said = {name for _, name, _, _ in calls()}
    assert said == {event.name for event in EVENTS}


def test_a_sentence_names_only_fields_that_its_event_has() -> None:
    for where, name, fields, others in calls():
        for event in (event for event in EVENTS if event.name == name):
            missing = event.names - fields - {"function", "version", "subject"}
            assert others or not missing, f"{where}: {name} does not tell {missing}"


def test_the_catalogue_explains_just_the_events_that_have_an_identity() -> None:
    found = re.findall(r"^-- (.+)$", CATALOGUE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(found) == sorted({event.message_id for event in EVENTS if event.message_id})
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in found)


def test_the_catalogue_names_only_fields_that_the_events_have() -> None:
    told: dict[str, set[str]] = {}
    for _, name, fields, _ in calls():
        told.setdefault(name, set()).update(fields)
    for entry in re.split(r"^-- ", CATALOGUE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        for event in (event for event in EVENTS if event.message_id == entry[:32]):
            wanted = {name.lower() for name in re.findall(r"@TINYFAAS_(\w+)@", entry)}
            missing = wanted - told[event.name] - OF_EVERY_RECORD
            if event.name != "history_not_trimmed":  # shares its explanation, which names nothing else
                assert not missing, f"{event.name}: {missing}"


def test_the_catalogue_is_one_that_journalctl_takes(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/systemd/catalog"
    folder.mkdir(parents=True)
    (folder / CATALOGUE.name).write_bytes(CATALOGUE.read_bytes())
    try:
        done = subprocess.run(
            ["journalctl", f"--root={tmp_path}", "--update-catalog"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no journalctl here")
    assert (done.returncode, done.stderr) == (0, "")
    listed = subprocess.run(
        ["journalctl", f"--root={tmp_path}", "--list-catalog"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {line.split()[0] for line in listed} >= {event.message_id for event in EVENTS if event.message_id}


def test_every_room_that_has_a_logger_is_listed_and_the_other_way_round() -> None:
    files = [file.read_text(encoding="utf-8") for file in (ROOT / "tinyfaas").rglob("*.py")]
    asked = {room for text in files for room in re.findall(r'log\.get\("(\w+)"\)', text)} | {"log"}
    assert asked == set(events.ROOMS)
