"""What holds the suite's traffic against docs/asyncapi.yaml finds what breaks it, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts.contract.traffic import Contract
from tests.harness.client import Client, Message
from tests.harness.contract import ASYNCAPI, Watch
from tests.harness.installation import CHECKOUT

MODULES = CHECKOUT / "build/asyncapi"
PARSER = Path(__file__).with_name("asyncapi_parser.js")
TOPIC = "faas/response/invoke/hello"
ANSWER: dict[str, Any] = {
    "id": "0e0c6a1b00000001", "request_id": "r-1", "function": "hello", "version": 1, "node": "pi-01",
    "status": "success", "result": None, "time_start": "2026-11-23T17:00:00.123Z",
    "time_end": "2026-11-23T17:00:00.125Z", "duration_ms": 1.9, "queued_ms": 0.2, "cold": False,
}  # fmt: skip
FAILURE: dict[str, Any] = {
    **{key: value for key, value in ANSWER.items() if key != "result"},
    "status": "error", "error": "ValueError: no", "code": "function_error", "error_type": "ValueError",
    "traceback": "…",
}  # fmt: skip


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract.at(ASYNCAPI)


def faults(contract: Contract, body: dict[str, Any], topic: str = TOPIC, **more: Any) -> list[str]:
    return contract.faults(topic, json.dumps(body).encode(), **more)


def without(body: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != key}


@pytest.mark.parametrize("body", [ANSWER, FAILURE, {**ANSWER, "attempts": 2}])
def test_an_answer_as_it_should_be_breaks_nothing(contract: Contract, body: dict[str, Any]) -> None:
    assert faults(contract, body, content_type="application/json") == []
    assert faults(contract, body, "reply/kitchen") == []


@pytest.mark.parametrize("key", ANSWER)
def test_an_answer_without_one_of_its_keys_is_found(contract: Contract, key: str) -> None:
    (found,) = faults(contract, without(ANSWER, key))
    assert found.startswith(f"{TOPIC}: ")
    assert f"'{key}'" in found


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("id", "7"), ("version", "1"), ("node", ""), ("time_start", "2026-11-23 17:00:00"), ("duration_ms", -1),
        ("cold", 1), ("attempts", 1), ("surprise", True),
    ],
)  # fmt: skip
def test_a_key_of_a_wrong_kind_and_one_too_many_are_found(contract: Contract, key: str, wrong: object) -> None:
    (found,) = faults(contract, {**ANSWER, key: wrong})
    assert key in found
    assert "schema invokeSuccess" in found


@pytest.mark.parametrize(
    "wrong",
    [
        without(FAILURE, "traceback"), {**FAILURE, "code": "gremlins"}, {**FAILURE, "error": "two\nlines"},
        {**FAILURE, "code": "timeout"}, {**FAILURE, "result": None},
    ],
)  # fmt: skip
def test_a_failure_that_is_none_of_the_contract_is_found(contract: Contract, wrong: dict[str, Any]) -> None:
    assert faults(contract, wrong) != []


@pytest.mark.parametrize(
    ("topic", "how", "said"),
    [
        ("faas/gossip", {}, "no channel"),
        (TOPIC, {"retain": True}, "is retained"),
        ("faas/node/pi-01", {"qos": 0}, "has QoS 0"),
        (TOPIC, {"content_type": "text/plain"}, "content type"),
        (TOPIC, {"properties": {"tinyfaas-chain": "pi-01"}}, "user property"),
    ],
)
def test_a_message_sent_in_another_way_is_found(contract: Contract, topic: str, how: dict[str, Any], said: str) -> None:
    assert said in "\n".join(faults(contract, ANSWER, topic, **how))


def test_what_is_no_json_is_found(contract: Contract) -> None:
    (found,) = contract.faults(TOPIC, b"{")
    assert found == f"{TOPIC}: is no JSON: b'{{'"


def test_a_watch_tells_once_of_what_several_have_heard_and_never_of_the_suites_own(contract: Contract) -> None:
    watch = Watch(contract)
    watch.note_own("faas/response/mine", b"rubbish")
    for payload, topic in ((b"rubbish", "faas/response/mine"), (b"rubbish", TOPIC), (b"rubbish", TOPIC)):
        watch.hear(Message(topic, payload, 1, False))
    watch.hear(Message("faas/invoke/hello", b"rubbish", 1, False))
    assert watch.faults() == [f"{TOPIC}: is no JSON: b'rubbish'"]
    assert watch.faults() == []
    assert watch.checked == 1


def test_a_test_that_hears_what_breaks_the_contract_fails(contract: Contract) -> None:
    watch = Watch(contract)
    watch.hear(Message(TOPIC, b"rubbish", 1, False))
    with pytest.raises(pytest.fail.Exception, match="not as docs/asyncapi"):
        watch.hold()


def test_every_client_of_the_suite_is_watched() -> None:
    assert isinstance(Client.watch, Watch)


@pytest.fixture(scope="module")
def parser() -> list[str]:
    """The command that has a file read by the official parser."""
    if not (MODULES / "node_modules/@asyncapi/parser").is_dir():
        npm = shutil.which("npm")
        assert npm is not None, "npm is not installed: scripts/test does that"
        command = [npm, "install", "--prefix", str(MODULES), "--no-audit", "--no-fund", "@asyncapi/parser@3"]
        subprocess.run(command, check=True, capture_output=True, timeout=110)
    return ["node", "-e", PARSER.read_text(encoding="utf-8")]


def read_by(parser: list[str], file: Path) -> list[str]:
    """What the parser has to say of it that is a warning or worse; it must have got as far as reading it."""
    environment = {**os.environ, "NODE_PATH": str(MODULES / "node_modules")}
    done = subprocess.run(
        [*parser, str(file)], capture_output=True, text=True, timeout=60, check=False, env=environment
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said: list[str] = json.loads(done.stdout)
    return said


def test_the_official_parser_finds_the_document_valid(parser: list[str]) -> None:
    assert read_by(parser, ASYNCAPI) == []


def test_the_official_parser_would_say_what_is_wrong(parser: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "asyncapi.yaml"
    text = ASYNCAPI.read_text(encoding="utf-8")
    broken.write_text(text.replace("action: receive", "action: overhear", 1), encoding="utf-8")
    shutil.copy(ASYNCAPI.with_name("function.schema.json"), tmp_path)
    assert any("action" in each for each in read_by(parser, broken))
