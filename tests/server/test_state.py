"""What is on disk: it survives every way of ending, and nothing of a deleted function stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import gated
from tests.harness.bench import Bench
from tests.harness.census import running
from tests.harness.client import Client, new_label, upload_body
from tests.harness.server import Server
from tests.harness.waiting import eventually

ECHO = "def main(*args): return list(args)"
END = [Server.stop, Server.kill]


class Home:
    """A server of the test's own with its broker and a client."""

    def __init__(self, bench: Bench, **settings: Any) -> None:
        self.broker = bench.broker()
        self.server = bench.server(self.broker, settings).start()
        self.client = bench.client(self.broker)

    @property
    def registry(self) -> Path:
        return self.server.data_dir / "functions.json"

    @property
    def history(self) -> Path:
        return self.server.data_dir / "logs.json"

    def logs(self, function: str, **query: Any) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = self.client.request(f"faas/admin/logs/{function}", query)["logs"]
        return records

    def records(self) -> list[dict[str, Any]]:
        """The executions in logs.json."""
        lines = [json.loads(line) for line in self.history.read_bytes().splitlines()]
        return [line for line in lines if "id" in line]


@pytest.fixture
def home(bench: Bench) -> Home:
    return Home(bench)


# --- survival --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", END, ids=["stop", "kill -9"])
def test_functions_versions_and_history_survive(home: Home, end: Callable[[Server], object]) -> None:
    home.client.deploy("kept", "def main(x): return 1 / x", config={"timeout_s": 9})
    home.client.deploy("kept", "def main(x): return 2 / x", config={"timeout_s": 8})
    home.client.deploy("kept", "def main(x): return 3 / x", config={"timeout_s": 7})
    home.client.request("faas/admin/rollback/kept")
    answers = [home.client.invoke("kept", x) for x in (1, 0, 2)]
    before = home.client.request("faas/admin/info/kept")
    logs = home.logs("kept")
    end(home.server)
    home.server.start()
    after = home.client.request("faas/admin/info/kept")
    ignored = ("request_id", "warm")
    assert {key: after[key] for key in after if key not in ignored} == {
        key: before[key] for key in before if key not in ignored
    }
    assert (after["calls"], after["errors"], after["warm"]) == (3, 1, 0)
    assert home.logs("kept") == logs
    assert [record["id"] for record in logs] == [answer["id"] for answer in answers]
    answer = home.client.invoke("kept", 1)
    assert (answer["result"], answer["version"], answer["cold"]) == (2, 2, True)
    assert home.client.request("faas/admin/rollback/kept")["version"] == 1
    assert home.client.deploy("kept", ECHO) == 4


def test_ids_are_never_repeated_over_a_restart(home: Home) -> None:
    home.client.deploy("echo", ECHO)
    before = {home.client.invoke("echo")["id"] for _ in range(5)}
    home.server.restart()
    assert before.isdisjoint(home.client.invoke("echo")["id"] for _ in range(5))


def test_what_a_function_got_and_returned_does_not_falsify_its_counters(home: Home) -> None:
    home.client.deploy("echo", ECHO)
    home.client.call("echo", {"status": "error", "function": "another", "delivery": "x.1.2"})
    home.client.call("echo", '"status":"error","function":"another"}')
    home.server.kill()
    home.server.start()
    info = home.client.request("faas/admin/info/echo")
    assert (info["calls"], info["errors"]) == (2, 0)
    assert len(home.logs("echo", status="success")) == 2


def test_a_torn_last_line_is_dropped_and_nothing_else(home: Home) -> None:
    home.client.deploy("echo", ECHO)
    for number in range(3):
        home.client.request("faas/invoke/echo", {"args": [number]}, qos=0)  # nobody delivers it again
    home.server.kill()
    with home.history.open("r+b") as file:  # the power went while the last line was written
        file.truncate(home.history.stat().st_size - 40)
    home.server.start()
    assert home.server.log.wait(event="torn_record_dropped")["bytes"] > 0
    assert [record["args"] for record in home.logs("echo")] == [[0], [1]]
    home.client.call("echo", "after")
    assert [record["args"] for record in home.logs("echo")] == [[0], [1], ["after"]]


@pytest.mark.parametrize("rubbish", [b"", b"\0" * 5_000, b"{", b"\xff\xfe\n\n\n", b'{"session":5}\n[]\nnull\n"x"\n'])
def test_rubbish_in_the_history_is_no_reason_not_to_start(home: Home, rubbish: bytes) -> None:
    home.client.deploy("echo", ECHO)
    home.client.call("echo", "before")
    home.server.stop()
    home.history.write_bytes(home.history.read_bytes() + rubbish)
    home.server.start()
    home.client.call("echo", "after")
    assert [record["args"] for record in home.logs("echo")] == [["before"], ["after"]]


@pytest.mark.parametrize("name", ["logs.json", "functions.json", "functions.json.previous", "lock"])
def test_a_missing_file_is_no_reason_not_to_start(home: Home, name: str) -> None:
    home.client.deploy("first", ECHO)
    home.client.deploy("second", ECHO)
    home.server.kill()
    (home.server.data_dir / name).unlink()
    home.server.start()
    assert "first" in home.client.request("faas/admin/list")["functions"]
    assert home.client.call("first", 1) == [1]


# --- corruption ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: None,
        lambda record: "text",
        lambda record: {},
        lambda record: {**record, "version": 99},
        lambda record: {**record, "version": "1"},
        lambda record: {**record, "next_version": 1},
        lambda record: {**record, "versions": []},
        lambda record: {**record, "versions": [{**record["versions"][0], "config": {"timeout_s": "long"}}]},
        lambda record: {**record, "versions": [{**record["versions"][0], "environment": 5}]},
    ],
)
def test_a_corrupt_record_is_set_aside_and_reported_and_the_others_load(
    home: Home, damage: Callable[[dict[str, Any]], Any]
) -> None:
    home.client.deploy("broken", ECHO)
    home.client.deploy("well", ECHO)
    home.server.stop()
    document = json.loads(home.registry.read_bytes())
    damaged = damage(document["broken"])
    home.registry.write_text(json.dumps({**document, "broken": damaged}), encoding="utf-8")
    home.server.start()
    assert home.client.request("faas/admin/list")["functions"] == ["well"]
    assert home.client.call("well", 1) == [1]
    assert home.server.log.wait(event="record_rejected", function="broken")["level"] == "error"
    (aside,) = home.server.data_dir.glob("functions.json.rejected-*")
    assert json.loads(aside.read_bytes()) == {"broken": damaged}
    assert (home.server.functions_dir / "broken").exists()  # nothing of it is thrown away
    assert home.client.deploy("broken", ECHO) >= 1


def test_a_record_with_a_bad_name_is_set_aside(home: Home) -> None:
    home.client.deploy("well", ECHO)
    home.server.stop()
    document = json.loads(home.registry.read_bytes())
    home.registry.write_text(json.dumps({**document, "../evil": document["well"], "": {}}), encoding="utf-8")
    home.server.start()
    assert home.client.request("faas/admin/list")["functions"] == ["well"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\0" * 100, b"[" * 100_000])
def test_a_registry_that_can_not_be_read_gives_way_to_the_one_before(home: Home, content: bytes) -> None:
    home.client.deploy("first", ECHO)
    home.client.deploy("second", ECHO)
    home.server.kill()
    home.registry.write_bytes(content)
    home.server.start()
    assert home.client.request("faas/admin/list")["functions"] == ["first"]
    assert home.server.log.wait(event="registry_unreadable")
    (aside,) = home.server.data_dir.glob("functions.json.corrupt-*")
    assert aside.read_bytes() == content
    assert home.client.call("first", 1) == [1]


def test_a_function_whose_files_have_gone_fails_alone(home: Home) -> None:
    home.client.deploy("hollow", ECHO)
    home.client.deploy("well", ECHO)
    home.server.stop()
    for file in (home.server.functions_dir / "hollow" / "versions").rglob("func.py"):
        file.unlink()
    home.server.start()
    assert home.client.invoke("hollow")["code"] == "crashed"
    assert home.client.call("well", 1) == [1]
    assert home.client.deploy("hollow", ECHO) == 2
    assert home.client.call("hollow", 2) == [2]


def test_an_upload_that_was_cut_off_is_done_after_the_next_start(home: Home) -> None:
    home.client.deploy("old", ECHO)
    for name in ("old", "new"):
        home.client.publish(f"faas/admin/upload/{name}", {"request_id": name, **upload_body(gated.IMPORT)})
        gated.Gate(home.server, name).wait_waiting()
    home.server.kill()
    gated.Gate(home.server, "old").shut()
    home.server.start()
    assert home.client.call("old", 1) == [1]  # the broker delivers the uploads again; until they are done it serves
    for name in ("old", "new"):
        gate = gated.Gate(home.server, name)
        gate.wait_waiting()
        gate.open()
        assert home.client.answer_to(name).body["status"] == "ok"
    assert [home.client.invoke(name)["version"] for name in ("old", "new")] == [2, 1]


def test_the_folder_of_an_upload_that_was_cut_off_is_removed(home: Home) -> None:
    home.client.publish("faas/admin/upload/new", upload_body(gated.IMPORT), qos=0)  # nobody delivers it again
    gated.Gate(home.server, "new").wait_waiting()
    home.server.kill()
    assert (home.server.functions_dir / "new").exists()
    home.server.start()
    assert not (home.server.functions_dir / "new").exists()
    assert home.client.deploy("new", ECHO) == 1


# --- deletion --------------------------------------------------------------------------------------------------------


def test_nothing_of_a_deleted_function_stays(home: Home) -> None:
    home.client.deploy("kept", ECHO)
    home.client.deploy(
        "gone", "import subprocess\ndef main(x): open('mine', 'w').write(x); subprocess.Popen(['sleep', '601.5'])"
    )
    home.client.call("kept", "gone")
    home.client.call("gone", "secret")
    home.client.request("faas/admin/delete/gone")
    assert not (home.server.functions_dir / "gone").exists()
    eventually(lambda: not running("sleep 601.5"), "its worker to be gone")
    assert "gone" not in json.loads(home.registry.read_bytes())
    assert [record["function"] for record in home.records()] == ["kept"]
    home.server.restart()
    assert home.client.request("faas/admin/list")["functions"] == ["kept"]
    home.client.deploy("gone", ECHO)
    info = home.client.request("faas/admin/info/gone")
    assert (info["version"], info["calls"]) == (1, 0)
    assert home.logs("gone") == []
    assert home.logs("kept")[0]["args"] == ["gone"]


def test_nothing_stays_of_a_function_that_ran_while_it_was_deleted(home: Home) -> None:
    home.client.deploy(
        "gone",
        """
        import os, time
        def main():
            open("running", "w").close()
            while os.path.exists("running"):
                time.sleep(0.01)
            return "finished"
        """,
    )
    home.client.publish("faas/invoke/gone", {"request_id": "running"})
    eventually((home.server.functions_dir / "gone" / "state" / "running").exists, "the call to run")
    assert home.client.request("faas/admin/delete/gone")["status"] == "deleted"
    assert home.client.answer_to("running").body["status"] in ("success", "error")
    assert home.records() == []
    assert not (home.server.functions_dir / "gone").exists()
    assert home.client.invoke("gone")["code"] == "not_found"
    home.client.deploy("gone", ECHO)
    assert home.client.request("faas/admin/info/gone")["calls"] == 0


def test_what_waits_for_a_function_that_is_deleted_is_answered(home: Home) -> None:
    gate = gated.deploy(home.server, home.client, "gone", {"concurrency": 1, "timeout_s": 1})
    labels = [new_label("request") for _ in range(4)]
    for label in labels:
        home.client.publish("faas/invoke/gone", {"request_id": label})
    gate.wait_waiting()
    assert home.client.request("faas/admin/delete/gone")["status"] == "deleted"
    codes = [home.client.answer_to(label).body["code"] for label in labels]
    assert codes == ["timeout", "not_found", "not_found", "not_found"]


# --- growth ----------------------------------------------------------------------------------------------------------


def test_an_invocation_costs_one_line_appended_and_no_file_rewritten(home: Home) -> None:
    home.client.deploy("echo", ECHO)
    home.client.call("echo")
    before = identities(home.server.data_dir)
    size, lines = home.history.stat().st_size, len(home.history.read_bytes().splitlines())
    for number in range(100):
        home.client.call("echo", number)
    content = home.history.read_bytes()
    assert len(content.splitlines()) == lines + 100
    assert (len(content) - size) / 100 < 600
    assert identities(home.server.data_dir) == before


def test_the_history_is_bounded_for_each_function_and_in_all(bench: Bench) -> None:
    home = Home(bench, history_max_bytes=65_536, history_per_function=20, history_recent=100)
    home.client.deploy("rare", ECHO)
    home.client.deploy("often", ECHO)
    home.client.call("rare", "once")
    labels = [new_label("request") for _ in range(1_000)]
    for label in labels:
        home.client.publish("faas/invoke/often", {"request_id": label, "args": ["x" * 100]})
    for label in labels:
        home.client.answer_to(label)
    eventually(lambda: home.history.stat().st_size < 65_536, "the history to be trimmed")
    assert [record["args"] for record in home.logs("rare")] == [["once"]]  # a flood does not wash it away
    assert 20 <= len(home.logs("often", limit=10_000)) < 1_000
    home.server.restart()
    assert home.client.request("faas/admin/info/often")["calls"] == 1_000
    assert home.client.request("faas/admin/info/rare")["calls"] == 1


def test_files_of_the_server_are_not_for_everyone(home: Home) -> None:
    home.client.deploy("echo", ECHO)
    home.client.call("echo")
    for file in (home.registry, home.history):
        assert file.stat().st_mode & 0o007 == 0
    assert home.server.data_dir.stat().st_mode & 0o007 == 0


def test_logs_json_is_read_by_any_tool_that_knows_json_lines(home: Home) -> None:
    home.client.deploy("echo", ECHO)
    client: Client = home.client
    answer = client.invoke("echo", "ä\nb")
    (record,) = home.records()
    assert {key: record[key] for key in answer} == answer
    assert record["args"] == ["ä\nb"]


def identities(folder: Path) -> dict[str, int]:
    """Every file of a folder with its inode: a file that was replaced has another."""
    return {str(path): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}
