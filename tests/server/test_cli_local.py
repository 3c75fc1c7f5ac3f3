"""Functions run on this computer without a server, as the server would: init, test, replay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import packages
from tests.harness.bench import Grounds
from tests.harness.client import Client
from tests.harness.commandline import Ended, run, run_by
from tests.harness.installation import CHECKOUT
from tests.harness.server import Server
from tinyfaas.exits import Exit

Tinyfaas = Callable[..., Ended]


@pytest.fixture
def workshop(grounds: Grounds) -> Path:
    """A folder of whoever runs the commands, which is never root."""
    return grounds.new_folder("workshop")


@pytest.fixture
def tinyfaas(grounds: Grounds, server: Server, workshop: Path) -> Tinyfaas:
    """The command line, with a cache of its own; what it runs must not be root's."""
    more = {**grounds.account.popen(), "cwd": workshop}
    ours = {"XDG_CACHE_HOME": str(workshop / "cache"), "HOME": str(workshop)}
    return lambda *argv, **variables: run_by(
        grounds.installation.python, more, server.broker.port, *argv, **ours, **variables
    )


@pytest.fixture
def make(workshop: Path, grounds: Grounds) -> Callable[..., Path]:
    """Writes a function's folder, each file by its name without the dot."""

    def write(name: str, **files: str) -> Path:
        folder = grounds.account.own(workshop / name) if (workshop / name).exists() else workshop / name
        folder.mkdir(exist_ok=True)
        grounds.account.own(folder)
        for file, text in files.items():
            (folder / file.replace("_", ".")).write_text(text, encoding="utf-8")
        return folder

    return write


def called(ended: Ended) -> dict[str, Any]:
    """The one call of a `test --json`."""
    (call,) = json.loads(ended.stdout)["calls"]
    assert isinstance(call, dict)
    return call


def test_what_init_makes_passes_the_test_and_its_own(tinyfaas: Tinyfaas, workshop: Path) -> None:
    made = tinyfaas("init", "greet")
    assert made.returncode == Exit.OK, made.stderr
    tested = tinyfaas("test", "greet")
    assert (tested.returncode, tested.stdout) == (Exit.OK, '{"message": "Hello, garden!"}\n')
    assert "stdout: greeting garden\n" in tested.stderr
    assert "example.json: " in tested.stderr.splitlines()[-1]
    own = subprocess.run([sys.executable, "-m", "unittest"], cwd=workshop / "greet", capture_output=True, check=False)
    assert own.returncode == 0, own.stderr
    (workshop / "greet" / "example.json").unlink()
    assert tinyfaas("test", "greet").stdout == '{"message": "Hello, world!"}\n'


def test_init_never_writes_into_what_is_there(tinyfaas: Tinyfaas, make: Callable[..., Path]) -> None:
    make("mine", func_py="def main(): ...\n")
    ended = tinyfaas("init", "mine")
    assert (ended.returncode, ended.stderr) == (
        Exit.USAGE, "tinyfaas: mine: is there already, and not empty; choose another name\n"
    )  # fmt: skip
    assert "is not a function name" in tinyfaas("init", "my function").stderr


def test_a_function_is_run_with_its_arguments_settings_and_state(
    tinyfaas: Tinyfaas, make: Callable[..., Path], server: Server
) -> None:
    code = """
import os, sys
from pathlib import Path
def main(*args, **kwargs):
    print("to stderr", file=sys.stderr)
    Path("note").write_text("x")
    return [args, kwargs, os.environ["UNITS"], sorted(os.listdir()), os.environ["TINYFAAS_FUNCTION"]]
"""
    make("own", func_py=code, function_toml='env = { UNITS = "metric" }\n')
    for _ in range(2):  # state begins empty each time
        call = called(tinyfaas("test", "own", "1", '{"a": 2}', "--kwarg", "n=3", "--json"))
        assert call["answer"]["result"] == [[1, {"a": 2}], {"n": 3}, "metric", ["note"], "own"]
        assert call["output"] == [{"stream": "stderr", "line": "to stderr"}]


@pytest.mark.parametrize(
    ("code", "settings", "said"),
    [
        ("def main(): 1/0", "", "function_error: ZeroDivisionError: division by zero"),
        ("import time\ndef main(): time.sleep(60)", "timeout_s = 0.3", "timeout: it ran longer than 0.3 s"),
        ("def main(): return len(b'x' * 300_000_000)", "memory_mb = 32", "out_of_memory: it used "),
        ("def main(): return {1, 2}", "", "bad_result: "),
        ("import os\ndef main(): os._exit(3)", "", "crashed: its process exited with status 3"),
        ("import nothing_such", "", "build_failed: ModuleNotFoundError: No module named 'nothing_such'"),
        ("def main(): ...", "timeout_s = 'long'", "bad_request: config.timeout_s: 'long' is not a number"),
        ("def main(): ...", "secrets = ['NONE']", "bad_request: secrets: this device has no secret NONE"),
    ],
)
def test_what_the_server_would_refuse_or_end_is_refused_or_ended_here(
    tinyfaas: Tinyfaas, make: Callable[..., Path], code: str, settings: str, said: str
) -> None:
    make("bad", func_py=code, function_toml=settings)
    ended = tinyfaas("test", "bad")
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "")
    assert f"tinyfaas: {said}" in ended.stderr


def test_what_a_function_would_publish_and_log_is_shown_and_goes_nowhere(
    tinyfaas: Tinyfaas, make: Callable[..., Path], server: Server
) -> None:
    code = """def main(topic, context):
    context.log.info("opening", bed=3)
    context.publish(topic, {"open": True})
    return context.function
"""
    folder = make("valve", func_py=code, function_toml='publish = ["local/valve/#"]\n')
    with Client(server.broker.port, topics=("local/#", "faas/#")) as client:
        ended = tinyfaas("test", str(folder), "local/valve/1", "--json")
        client.settle()
        assert [message for message in client.seen if message.topic.startswith("local/")] == []
    call = called(ended)
    assert call["answer"]["result"] == "valve"
    assert call["output"] == [
        {"stream": "info", "line": "opening bed=3"}, {"stream": "published", "line": 'local/valve/1 {"open":true}'},
    ]  # fmt: skip
    ended = tinyfaas("test", str(folder), "local/other", "--json")
    assert called(ended)["answer"]["code"] == "forbidden"


def test_an_example_that_does_not_fit_fails_and_is_told_apart(tinyfaas: Tinyfaas, make: Callable[..., Path]) -> None:
    make(
        "sum", func_py="def main(a, b=1): return a + b\n", example_json='{"args": [1], "kwargs": {"b": 2}, "result": 4}'
    )
    ended = tinyfaas("test", "sum", "5")
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, "6\n3\n")
    assert "tinyfaas: example.json: 4 was expected\n" in ended.stderr
    make("sum", example_json="[]")
    assert tinyfaas("test", "sum").returncode == Exit.USAGE


def test_an_environment_is_built_as_the_server_builds_it_once_and_kept(
    tinyfaas: Tinyfaas, make: Callable[..., Path], workshop: Path, grounds: Grounds
) -> None:
    wheels = grounds.new_wheels()
    packages.wheel(wheels, "kettle")
    house = {"TINYFAAS_UPLOADS_WHEEL_HOUSE": str(wheels), "TINYFAAS_UPLOADS_NO_INDEX": "true"}
    code = "import sys, kettle\ndef main(): return [kettle.VALUE, sys.prefix]\n"
    make("tea", func_py=code, requirements_txt="kettle # of our own\n")
    value, prefix = called(tinyfaas("test", "tea", "--json", **house))["answer"]["result"]
    assert value == 42
    assert Path(prefix).is_relative_to(workshop / "cache" / "tinyfaas")
    built = Path(prefix).stat()
    make("tea", func_py="1/0")
    assert "ZeroDivisionError" in tinyfaas("test", "tea", **house).stderr
    make("tea", func_py=code)
    packages.wheel(wheels, "kettle", source="VALUE = 43")
    assert called(tinyfaas("test", "tea", "--json", **house))["answer"]["result"] == [42, prefix]
    assert (Path(prefix).stat().st_ino, Path(prefix).stat().st_ctime_ns) == (built.st_ino, built.st_ctime_ns)
    make("tea", requirements_txt="pot\n")
    refused = tinyfaas("test", "tea", **house)
    assert refused.returncode == Exit.FAILED
    assert "tinyfaas: build_failed: " in refused.stderr


@pytest.mark.parametrize("sample", ["hello", "pi-health"])
def test_the_samples_pass(tinyfaas: Tinyfaas, make: Callable[..., Path], sample: str) -> None:
    files = {
        file.name.replace(".", "_"): file.read_text(encoding="utf-8")
        for file in (CHECKOUT / "functions" / sample).iterdir()
    }
    make(sample, **{name: text for name, text in files.items() if name != "README_md"})
    assert tinyfaas("test", sample).returncode == Exit.OK


def test_a_replay_tells_what_would_be_different(
    tinyfaas: Tinyfaas, make: Callable[..., Path], client: Client, function: str
) -> None:
    client.deploy(function, "def main(n, text='', *, times=1): return n // 2 * times + len(text)")
    client.invoke(function, 4, times=3)
    client.invoke(function, 5)
    client.invoke(function, 6, "x" * 5000)
    client.invoke(function, "no number")
    new = "def main(n, text='', *, times=1):\n    return n / 2 * times + len(text) if n % 2 else n // 2 * times\n"
    make(function, func_py=new)
    ended = tinyfaas("replay", function, function, "--json")
    assert ended.returncode == Exit.FAILED, ended.stderr
    said = json.loads(ended.stdout)
    assert (said["same"], said["different"], said["skipped"]) == (1, 2, 1)
    assert [each["same"] for each in said["calls"]] == [True, False, False]
    assert (said["calls"][1]["before"]["result"], said["calls"][1]["now"]["result"]) == (2, 2.5)
    assert "cut in the history" in said["skips"][0]["reason"]
    shown = tinyfaas("replay", function, function)
    assert [line.split("\t")[0] for line in shown.stdout.splitlines()] == ["", "same", "DIFFERENT", "DIFFERENT"]
    assert shown.stderr.splitlines()[-1] == "1 same, 2 different, 1 skipped"


def test_a_replay_on_a_stored_version_reads_this_devices_disk(
    tinyfaas: Tinyfaas, client: Client, server: Server, function: str
) -> None:
    client.deploy(function, "def main(n): return n")
    client.deploy(function, "def main(n): return n + 0.5")
    client.invoke(function, 1)
    here = {"TINYFAAS_DATA_DIR": str(server.data_dir), "TINYFAAS_FUNCTIONS_DIR": str(server.functions_dir)}
    now = tinyfaas("replay", function, "--version", "2", **here)
    assert (now.returncode, now.stderr.splitlines()[-1]) == (Exit.OK, "1 same, 0 different, 0 skipped")
    before = tinyfaas("replay", function, "--version", "1", **here)
    assert (before.returncode, before.stderr.splitlines()[-1]) == (Exit.FAILED, "0 same, 1 different, 0 skipped")
    none = tinyfaas("replay", function, "--version", "7", **here)
    assert none.stderr == f"tinyfaas: {function} has no version 7 here; there are: 1, 2\n"
    assert tinyfaas("replay", function).returncode == Exit.USAGE


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_root_runs_nothing_without_a_sandbox(make: Callable[..., Path], workshop: Path) -> None:
    folder = make("any", func_py="def main(): ...\n")
    ended = run(1, "test", str(folder), TINYFAAS_SANDBOX_MODE="off", XDG_CACHE_HOME=str(workshop / "root"))
    assert ended.returncode == Exit.FAILED
    assert ended.stderr.startswith("tinyfaas: not as root without a sandbox")


def test_without_a_sandbox_that_is_said_and_limits_hold_all_the_same(
    tinyfaas: Tinyfaas, make: Callable[..., Path], grounds: Grounds
) -> None:
    make("long", func_py="import time\ndef main(s): time.sleep(s)\n", function_toml="timeout_s = 0.5\n")
    quick = tinyfaas("test", "long", "0", TINYFAAS_SANDBOX_MODE="off")
    assert (quick.returncode, quick.stdout) == (Exit.OK, "null\n")
    assert "note: no sandbox here: switched off\n" in quick.stderr
    slow = tinyfaas("test", "long", "5", TINYFAAS_SANDBOX_MODE="off")
    assert "tinyfaas: timeout: it ran longer than 0.5 s" in slow.stderr
