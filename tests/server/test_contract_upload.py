"""The contract of `upload`: what it answers and tells on the way, what serves meanwhile, and what is built again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.harness import gated, packages
from tests.harness.bench import Grounds
from tests.harness.client import Client, new_label, upload_body
from tests.harness.server import Server
from tests.harness.waiting import eventually

ECHO = "def main(*args, **kwargs): return [list(args), kwargs]"
EVENT_KEYS = {"function", "request_id", "node", "phase", "elapsed_s"}


def phases(client: Client, function: str, request_id: str) -> list[str]:
    """The phases of an upload as they were told, each once."""
    told = [
        each.body["phase"] for each in list(client.seen)
        if each.topic == f"faas/event/upload/{function}" and each.body.get("request_id") == request_id
    ]  # fmt: skip
    return list(dict.fromkeys(told))


def environments(server: Server, function: str) -> dict[str, int]:
    """The environments of a function and when each was built."""
    folder = server.functions_dir / function / "environments"
    return {each.name: each.stat().st_ino for each in folder.iterdir()}


def test_an_upload_answers_with_version_and_duration(client: Client, server: Server, function: str) -> None:
    message = client.ask(f"faas/admin/upload/{function}", {"request_id": "mine", **upload_body(ECHO)})
    answer = message.body
    assert message.topic == f"faas/response/admin/upload/{function}"
    assert set(answer) == {"status", "request_id", "node", "function", "version", "seconds"}
    assert (answer["status"], answer["request_id"], answer["node"]) == ("ok", "mine", server.node)
    assert (answer["function"], answer["version"]) == (function, 1)
    assert 0 < answer["seconds"] < 60
    assert client.call(function, 1) == [[1], {}]


def test_a_new_version_replaces_the_one_before_with_its_state(client: Client, function: str) -> None:
    code = "seen = []\ndef main(x):\n    seen.append(x)\n    return [{}, seen]"
    assert client.deploy(function, code.format(1)) == 1
    client.call(function, "old")
    assert client.deploy(function, code.format(2)) == 2
    answer = client.invoke(function, "new")
    assert (answer["version"], answer["result"]) == (2, [2, ["new"]])


def test_what_a_function_wrote_survives_a_new_version(client: Client, function: str) -> None:
    client.deploy(function, "def main(): open('kept', 'w').write('it')")
    client.call(function)
    client.deploy(function, "def main(): return open('kept').read()")
    assert client.call(function) == "it"


def test_settings_come_with_the_upload_and_go_with_the_next(client: Client, function: str) -> None:
    client.deploy(function, ECHO, config={"timeout_s": 3, "max_result_bytes": 100})
    assert client.request(f"faas/admin/info/{function}")["config"]["timeout_s"] == 3
    client.deploy(function, ECHO)
    assert client.request(f"faas/admin/info/{function}")["config"]["timeout_s"] == 30


# --- progress --------------------------------------------------------------------------------------------------------


def test_an_upload_without_requirements_tells_its_progress(client: Client, server: Server, function: str) -> None:
    label = new_label("request")
    client.request(f"faas/admin/upload/{function}", {"request_id": label, **upload_body(ECHO)})
    client.settle()
    assert phases(client, function, label) == ["queued", "environment", "import", "ready"]
    events = [each for each in client.seen if each.topic == f"faas/event/upload/{function}"]
    for event in events:
        assert set(event.body) == EVENT_KEYS
        assert (event.body["function"], event.body["node"]) == (function, server.node)
        assert event.retain is False
    elapsed = [event.body["elapsed_s"] for event in events]
    assert elapsed == sorted(elapsed)
    assert elapsed[0] >= 0


def test_an_upload_with_requirements_also_tells_what_the_installer_says(
    client: Client, grounds: Grounds, function: str
) -> None:
    wheel = packages.wheel(grounds.new_wheels(), "probe")
    label = new_label("request")
    body = upload_body("import probe\ndef main(): return probe.VALUE", str(wheel))
    client.request(f"faas/admin/upload/{function}", {"request_id": label, **body})
    client.settle()
    assert phases(client, function, label) == ["queued", "environment", "install", "import", "ready"]
    lines = [each.body["line"] for each in client.seen if each.topic.startswith("faas/event/") and "line" in each.body]
    assert any("probe" in line for line in lines)
    assert client.call(function) == 42


def test_an_upload_that_fails_says_so_in_its_progress(client: Client, function: str) -> None:
    label = new_label("request")
    client.request(f"faas/admin/upload/{function}", {"request_id": label, **upload_body("1 / 0")})
    client.settle()
    assert phases(client, function, label) == ["queued", "environment", "import", "failed"]


def test_an_upload_that_is_refused_has_no_progress(client: Client, function: str) -> None:
    label = new_label("request")
    client.request(f"faas/admin/upload/{function}", {"request_id": label, "code_b64": "?"})
    client.settle()
    assert phases(client, function, label) == []


# --- what is built, and what is not -----------------------------------------------------------------------------------


def test_a_code_only_redeploy_uses_the_environment_again(
    client: Client, server: Server, grounds: Grounds, function: str
) -> None:
    wheel = packages.wheel(grounds.new_wheels(), "probe")
    client.deploy(function, "import probe\ndef main(): return 1", f"{wheel}\n")
    before = environments(server, function)
    label = new_label("request")
    body = upload_body("import probe\ndef main(): return 2", f"# a comment\n{wheel}  # and one more\n\n")
    client.request(f"faas/admin/upload/{function}", {"request_id": label, **body})
    client.settle()
    assert environments(server, function) == before
    assert "install" not in phases(client, function, label)
    assert client.call(function) == 2


def test_changed_requirements_build_a_new_environment(
    client: Client, server: Server, grounds: Grounds, function: str
) -> None:
    folder = grounds.new_wheels()
    code = "import probe\ndef main(): return probe.VALUE"
    client.deploy(function, code, str(packages.wheel(folder, "probe", "1.0", "VALUE = 1")))
    client.deploy(function, code, str(packages.wheel(folder, "probe", "2.0", "VALUE = 2")))
    assert client.call(function) == 2
    assert len(environments(server, function)) == 2  # the first is kept for a rollback


def test_only_so_many_versions_are_kept_and_nothing_of_the_others(
    client: Client, server: Server, function: str
) -> None:
    for number in range(1, 8):
        client.deploy(function, f"def main(): return {number}")
    info = client.request(f"faas/admin/info/{function}")
    assert [version["version"] for version in info["versions"]] == [3, 4, 5, 6, 7]
    kept = {folder.name for folder in (server.functions_dir / function / "versions").iterdir()}
    assert kept == {"3", "4", "5", "6", "7"}


@pytest.mark.parametrize(
    ("code", "requirements"),
    [("def main(:", ""), ("1 / 0", ""), ("import no_such_module", ""), (ECHO, "/no/such.whl")],
)
def test_a_failed_upload_leaves_the_version_before_serving_and_nothing_behind(
    client: Client, server: Server, function: str, code: str, requirements: str
) -> None:
    client.deploy(function, "def main(): return 'old'")
    before = files_of(server, function)
    assert client.upload(function, code, requirements)["code"] == "build_failed"
    assert client.call(function) == "old"
    assert files_of(server, function) == before
    assert client.request(f"faas/admin/info/{function}")["state"] == "ready"
    assert client.deploy(function, "def main(): return 'new'") > 1
    assert client.call(function) == "new"


def test_a_failed_first_upload_leaves_nothing(client: Client, server: Server, function: str) -> None:
    assert client.upload(function, "1 / 0")["code"] == "build_failed"
    assert client.invoke(function)["code"] == "not_found"
    assert function not in client.request("faas/admin/list")["functions"]
    assert not (server.functions_dir / function).exists()


def test_the_old_version_serves_while_the_new_one_is_built(client: Client, server: Server, function: str) -> None:
    client.deploy(function, "def main(): return 'old'")
    client.publish(f"faas/admin/upload/{function}", {"request_id": "slow", **upload_body(gated.IMPORT)})
    gate = gated.Gate(server, function)
    gate.wait_waiting()
    assert client.call(function) == "old"
    gate.open()
    assert client.answer_to("slow").body["version"] == 2
    assert client.call(function, "new") == "new"


def test_a_call_that_runs_during_the_switch_is_finished_by_the_version_it_began_with(
    client: Client, server: Server, function: str
) -> None:
    gate = gated.deploy(server, client, function)
    client.publish(f"faas/invoke/{function}", {"request_id": "old", "args": ["begun"]})
    gate.wait_waiting()
    client.deploy(function, "def main(): return 'new'")
    assert client.call(function) == "new"
    gate.open()
    old = client.answer_to("old").body
    assert (old["result"], old["version"]) == ("begun", 1)


def test_two_uploads_of_one_function_come_one_after_the_other(client: Client, server: Server, function: str) -> None:
    topic = f"faas/admin/upload/{function}"
    client.publish(topic, {"request_id": "first", **upload_body(gated.IMPORT)})
    gate = gated.Gate(server, function)
    gate.wait_waiting()
    client.publish(topic, {"request_id": "second", **upload_body("def main(): return 'second'")})
    client.wait_topic(f"faas/event/upload/{function}", request_id="second", phase="queued")
    another = f"{function}-another"
    client.deploy(another, ECHO)  # another function does not wait
    assert client.answers("second") == []
    assert phases(client, function, "second") == ["queued"]
    gate.open()
    assert client.answer_to("first").body["version"] == 1
    assert client.answer_to("second").body["version"] == 2
    assert client.call(function) == "second"


def test_a_delete_waits_for_the_upload_before_it(client: Client, server: Server, function: str) -> None:
    client.publish(f"faas/admin/upload/{function}", {"request_id": "up", **upload_body(gated.IMPORT)})
    gate = gated.Gate(server, function)
    gate.wait_waiting()
    client.publish(f"faas/admin/delete/{function}", {"request_id": "down"})
    gate.open()
    assert client.answer_to("up").body["status"] == "ok"
    assert client.answer_to("down").body["status"] == "deleted"
    assert not (server.functions_dir / function).exists()


def test_an_import_that_prints_and_starts_threads_is_fine(client: Client, server: Server, function: str) -> None:
    client.deploy(
        function,
        """
        import threading
        print("hello from the import")
        threading.Thread(target=lambda: None).start()
        def main(): return threading.active_count()
        """,
    )
    assert client.call(function) == 1
    assert server.log.wait(event="function_output", function=function, line="hello from the import")


def test_a_build_failure_shows_the_end_of_what_was_said(client: Client, grounds: Grounds, function: str) -> None:
    failed: list[tuple[dict[str, Any], str]] = [
        (client.upload(function, "x = 1\nraise LookupError('nowhere')"), 'File "func.py", line 2'),
        (client.upload(function, ECHO, str(grounds.folder / "none.whl")), "none.whl"),
    ]
    for answer, said in failed:
        assert set(answer) == {"status", "request_id", "node", "function", "error", "code", "detail"}
        assert (answer["status"], answer["code"]) == ("error", "build_failed")
        assert "\n" not in answer["error"]
        assert said in answer["detail"]
    assert failed[0][0]["error"] == "LookupError: nowhere"


def files_of(server: Server, function: str) -> set[str]:
    """Every file of a function."""
    home: Path = server.functions_dir / function
    eventually(home.exists, f"{home}")
    return {str(path.relative_to(home)) for path in home.rglob("*")}
