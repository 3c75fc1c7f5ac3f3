"""What a function finds in its environment: variables and secrets of its own, and nobody else's, however it looks."""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path

import pytest

from tests.harness.bench import Bench
from tests.harness.census import below, fork_server, name
from tests.harness.client import new_label
from tests.harness.place import Place

MARK = "tf_s3cret_"  # what follows is different in each
MASK = "********"
PATTERN = re.compile(rb"tf_s3cret_[0-9a-f]{32}")

KEEPER = """
    import os, sys
    def main(how, name="API_KEY"):
        if how == "tell": return os.environ.get(name)
        if how == "whole": return dict(os.environ)
        if how == "started with": return open("/proc/self/environ").read()
        if how == "print": print("the key is", os.environ[name])
        if how == "print to stderr": sys.stderr.write("the key is " + os.environ[name])
        if how == "raise": raise ValueError("the key is " + os.environ[name])
        if how == "raise as a type": raise type(os.environ[name].split()[0], (Exception,), {})()
"""
# The pattern does not fit itself, and what is read is forgotten at once: all that is found was there before.
SEARCHER = """
    import re
    PATTERN = re.compile(rb"tf_s3cret_[0-9a-f]{32}")
    def main():
        found = set()
        for line in open("/proc/self/maps"):
            room, rights = line.split()[:2]
            start, end = (int(text, 16) for text in room.split("-"))
            if "r" not in rights or "[v" in line: continue
            with open("/proc/self/mem", "rb", buffering=0) as memory:
                try:
                    memory.seek(start)
                    found |= {match[0].decode() for match in PATTERN.finditer(memory.read(end - start))}
                except (OSError, ValueError, OverflowError): pass
        return sorted(found)
"""


def keep(folder: Path, name: str, value: str, like: Path) -> str:
    """Put a secret where the server finds it."""
    file, owner = folder / name, like.stat()
    file.write_text(f"{value}\n", encoding="utf-8")
    file.chmod(0o600)
    os.chown(file, owner.st_uid, owner.st_gid)
    return value


def new_secret() -> str:
    return MARK + secrets.token_hex(16)


@pytest.fixture
def key(place: Place) -> str:
    """The value of secret API_KEY."""
    return keep(place.secrets, "API_KEY", new_secret(), place.secrets)


def test_a_function_sees_its_variables_and_nothing_of_the_servers(place: Place, function: str) -> None:
    place.client.deploy(function, KEEPER, config={"env": {"UNIT": "°C", "EMPTY": ""}})
    seen = place.client.call(function, "whole")
    assert {"UNIT": "°C", "EMPTY": ""}.items() <= seen.items()
    assert seen.keys() == {
        "UNIT", "EMPTY", "PATH", "HOME", "LANG", "TINYFAAS_STATE_DIR", "TINYFAAS_FUNCTION", "TINYFAAS_VERSION",
        "TINYFAAS_NODE",
    }  # fmt: skip
    assert place.client.request(f"faas/admin/info/{function}")["config"]["env"] == {"UNIT": "°C", "EMPTY": ""}


@pytest.mark.parametrize("name", ["TINYFAAS_NODE", "A-B", "1A", ""])
def test_a_variable_that_can_not_be_set_fails_the_upload(place: Place, function: str, name: str) -> None:
    answer = place.client.upload(function, KEEPER, config={"env": {name: "x"}})
    assert answer["code"] == "bad_request", answer
    assert "config.env" in answer["error"]


def test_a_secret_is_seen_by_the_function_that_lists_it_alone(place: Place, function: str, key: str) -> None:
    place.client.deploy(function, KEEPER, config={"secrets": ["API_KEY"]})
    place.client.deploy(f"{function}-2", KEEPER)
    assert place.client.call(function, "tell") == key
    assert place.client.call(function, "tell", "SPARE") is None
    assert place.client.call(f"{function}-2", "tell") is None


def test_a_secret_is_nowhere_else_whatever_its_function_does(place: Place, function: str, key: str) -> None:
    since = len(place.server.log.text())
    place.client.deploy(function, KEEPER, config={"secrets": ["API_KEY"], "retry": {"attempts": 1}})
    place.client.request(f"faas/admin/logs/{function}", {"output_s": 60})
    answers = [place.client.invoke(function, how) for how in
               ("print", "print to stderr", "raise", "raise as a type", "started with")]  # fmt: skip
    printed = place.server.log.wait(event="function_output", function=function, stream="stdout")
    assert printed["line"] == f"the key is {MASK}"
    assert place.client.wait_topic(f"faas/event/output/{function}", stream="stdout").body["line"] == printed["line"]
    assert answers[2]["error"] == f"ValueError: the key is {MASK}"
    told = [json.dumps(answer) for answer in answers]
    told += [json.dumps(place.client.request(f"faas/admin/{what}/{function}")) for what in ("info", "logs")]
    told += [json.dumps(place.client.request(f"faas/admin/{what}")) for what in ("list", "status")]
    told += [each.payload.decode() for each in place.client.seen]
    told += [path.read_text(encoding="utf-8") for path in place.server.data_dir.glob("*.json")]
    told += [place.server.log.text()[since:]]
    assert [text[max(0, text.find(key) - 200) :][:400] for text in told if key in text] == []


def test_each_line_of_a_secret_is_hidden(place: Place, function: str) -> None:
    lines = ["-----BEGIN KEY-----", new_secret(), new_secret(), "-----END KEY-----"]
    keep(place.secrets, "PEM", "\n".join(lines), place.secrets)
    place.client.deploy(function, KEEPER, config={"secrets": ["PEM"]})
    assert place.client.call(function, "tell", "PEM") == "\n".join(lines)
    place.client.call(function, "print", "PEM")
    error = place.client.invoke(function, "raise", "PEM")
    place.server.log.wait(event="invocation_done", invocation_id=error["id"])
    assert MARK not in json.dumps(error)
    assert not any(line in place.server.log.text() for line in lines[1:3])


def test_a_secret_is_hidden_when_the_import_fails(place: Place, function: str, key: str) -> None:
    since = len(place.server.log.text())
    code = "import os\nprint(os.environ['API_KEY'])\nraise RuntimeError(os.environ['API_KEY'])\ndef main(): pass"
    answer = place.client.upload(function, code, config={"secrets": ["API_KEY"]})
    assert (answer["code"], answer["error"]) == ("build_failed", f"RuntimeError: {MASK}")
    assert key not in json.dumps(answer) + place.server.log.text()[since:]


def test_a_secret_that_is_not_there_fails_the_upload(place: Place, function: str) -> None:
    answer = place.client.upload(function, KEEPER, config={"secrets": ["MISSING"]})
    assert answer["code"] == "bad_request", answer
    assert "MISSING" in answer["error"]
    assert function not in place.client.request("faas/admin/list")["functions"]


def test_a_secret_that_was_changed_is_seen_by_the_next_worker(place: Place, function: str, key: str) -> None:
    place.client.deploy(function, KEEPER + "        os._exit(1)\n", config={"secrets": ["API_KEY"]})
    assert place.client.call(function, "tell") == key
    changed = keep(place.secrets, "API_KEY", new_secret(), place.secrets)
    assert place.client.call(function, "tell") == key
    assert place.client.invoke(function, "end")["code"] == "crashed"
    assert place.client.call(function, "tell") == changed


def test_nothing_of_a_secret_is_in_the_memory_of_another_worker(place: Place, function: str, key: str) -> None:
    place.client.deploy(function, KEEPER, config={"secrets": ["API_KEY"]})
    assert place.client.call(function, "tell") == key
    own = f"{function}-own"
    place.client.deploy(own, SEARCHER, config={"secrets": ["API_KEY"]})
    assert place.client.call(own) == [key]  # who has it finds it: the search is good
    place.client.deploy(f"{function}-2", SEARCHER)
    assert place.client.call(f"{function}-2") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads another process's memory")
def test_nothing_of_a_secret_is_in_the_memory_of_the_fork_server(place: Place, function: str, key: str) -> None:
    place.client.deploy(function, KEEPER, config={"secrets": ["API_KEY"]})
    assert place.client.call(function, "tell") == key
    assert PATTERN.findall(memory_of(fork_server(place.server.pid))) == []
    holders = [name(pid) for pid in below(place.server.pid) if key.encode() in memory_of(pid)]
    assert [each.partition(" ")[0] for each in holders] == ["faas"]  # the worker, and nobody else below the server


def test_systemds_credentials_are_secrets_too(bench: Bench, function: str) -> None:
    broker, folder = bench.broker(), bench.grounds.new_folder("credentials")
    value = keep(folder, "secrets_API_KEY", new_secret(), folder)
    keep(folder, "mqtt_password", new_secret(), folder)
    server = bench.server(broker)
    server.environ = {"CREDENTIALS_DIRECTORY": str(folder)}
    server.start()
    client = bench.client(broker)
    client.deploy(function, KEEPER, config={"secrets": ["API_KEY"]})
    assert client.call(function, "tell") == value
    assert "CREDENTIALS_DIRECTORY" not in client.call(function, "whole")
    assert client.upload(new_label("other"), KEEPER, config={"secrets": ["mqtt_password"]})["code"] == "bad_request"


def memory_of(pid: int) -> bytes:
    """All that can be read of a process's memory; of one that has ended, nothing."""
    found = []
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for line in maps.splitlines():
                room, rights, *_ = line.split()
                start, end = (int(text, 16) for text in room.split("-"))
                if "r" in rights and "[v" not in line:
                    memory.seek(start)
                    found.append(memory.read(end - start))
    except FileNotFoundError:
        pass
    return b"".join(found)
