"""What the words of a command line mean."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tinyfaas.cli.arguments import parse
from tinyfaas.cli.words import json_or_text
from tinyfaas.exits import Exit


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What is said about a command line that must be refused."""
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == Exit.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("tinyfaas: ")
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("3", 3),
        ("-2.5", -2.5),
        ("true", True),
        ("null", None),
        ('"3"', "3"),
        ('{"a": [1]}', {"a": [1]}),
        ("Pi", "Pi"),
        ("", ""),
        ("007", "007"),
        ('{"a": ', '{"a": '),
    ],
)
def test_an_argument_is_json_or_else_a_string(text: str, meaning: Any) -> None:
    assert json_or_text(text) == meaning
    assert type(json_or_text(text)) is type(meaning)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "[" * 100_000])
def test_what_python_reads_but_json_can_not_say_is_a_string(text: str) -> None:
    assert json_or_text(text) == text


def test_invoke_takes_arguments_in_their_order() -> None:
    assert parse(["invoke", "hello", "1", "two", "[3]"]).arguments == [1, "two", [3]]


def test_invoke_without_arguments_calls_main_without_any() -> None:
    args = parse(["invoke", "hello"])
    assert (args.arguments, args.kwarg) == ([], [])


def test_keyword_arguments_are_json_or_strings_too() -> None:
    args = parse(["invoke", "hello", "--kwarg", "n=3", "--kwarg", "text=a=b", "--kwarg", "empty="])
    assert dict(args.kwarg) == {"n": 3, "text": "a=b", "empty": ""}


@pytest.mark.parametrize(
    "argv",
    [
        ["hello", "1", "two", "--port", "1884"],
        ["hello", "--port", "1884", "1", "two"],
        ["--port", "1884", "hello", "1", "two"],
        ["hello", "1", "--port", "1884", "two"],
    ],
)
def test_arguments_and_flags_may_come_in_any_order(argv: list[str]) -> None:
    args = parse(["invoke", *argv])
    assert (args.function, args.arguments, args.port) == ("hello", [1, "two"], 1884)


@pytest.mark.parametrize("before", [[], ["--port", "1884"]])
def test_after_two_dashes_everything_is_an_argument(before: list[str]) -> None:
    assert parse(["invoke", "hello", *before, "--", "--json", "-x"]).arguments == ["--json", "-x"]


@pytest.mark.parametrize("before", [[], ["--port", "1884"]])
def test_a_negative_number_is_an_argument(before: list[str]) -> None:
    assert parse(["invoke", "hello", *before, "-5"]).arguments == [-5]


def test_a_flag_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unrecognized arguments: --colour" in refused(capsys, "invoke", "hello", "--port", "1884", "--colour")


def test_flags_are_not_guessed_from_their_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unrecognized arguments: --js" in refused(capsys, "list", "--js")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["invoke"], "FN"),
        (["info", "a/b"], "'a/b' is not a function name"),
        (["info", "#"], "'#' is not a function name"),
        (["deploy", ".", "--name", "a b"], "'a b' is not a function name"),
        (["list", "--port", "0"], "'0' is not a port"),
        (["list", "--port", "mqtt"], "'mqtt' is not a port"),
        (["list", "--timeout", "0"], "'0' is not a number of seconds"),
        (["list", "--timeout", "nan"], "'nan' is not a number of seconds"),
        (["invoke", "hello", "--kwarg", "x"], "'x' is not NAME=VALUE"),
        (["invoke", "hello", "--kwarg", "=x"], "'=x' is not NAME=VALUE"),
        (["list", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], said: str) -> None:
    assert said in refused(capsys, *argv)


def test_no_flag_takes_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "list", "--password", "raspberry")


def test_the_configuration_may_be_named_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYFAAS_CONFIG", "/tmp/a.toml")
    assert parse(["serve"]).config == Path("/tmp/a.toml")
    assert parse(["serve", "--config", "b.toml"]).config == Path("b.toml")


def test_without_a_name_the_configuration_is_the_usual_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINYFAAS_CONFIG", raising=False)
    assert parse(["serve"]).config is None


def test_version_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--version"])
    assert ended.value.code in (None, 0)
    assert capsys.readouterr().out.startswith("tinyfaas ")


@pytest.mark.parametrize(("text", "ago_s"), [("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259_200)])
def test_an_age_is_a_time_to_look_back_to(text: str, ago_s: int) -> None:
    since = datetime.fromisoformat(parse(["logs", "f", "--since", text]).since)
    assert abs((datetime.now(UTC) - since).total_seconds() - ago_s) < 60


@pytest.mark.parametrize("text", ["yesterday", "15", "m", "-3h", "99999999999d"])
def test_what_is_no_time_is_refused(capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert f"{text!r} is no time such as" in refused(capsys, "logs", "f", f"--since={text}")
