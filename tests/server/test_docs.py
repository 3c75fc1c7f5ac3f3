"""What the pages show a reader, tried: every example of the protocol, every function, the README's first steps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bench import Bench, Grounds
from tests.harness.broker import Broker
from tests.harness.client import Client, Message
from tests.harness.events import wait_records
from tests.harness.installation import CHECKOUT
from tests.harness.server import Server
from tests.harness.waiting import PATIENCE_S, eventually

PROTOCOL = CHECKOUT / "docs/protocol.md"
FUNCTIONS = CHECKOUT / "docs/functions.md"
FIRST_FUNCTION = CHECKOUT / "docs/first-function.md"
README = CHECKOUT / "README.md"
SETTING = "Reading the examples"  # the section whose function all the others use
NODE = "pi-01"

# Times, measurements, ids and counters: only their type is compared, and null stands for any.
VARYING = {
    *("id", "instance", "since", "uploaded", "digest", "python", "calls", "errors"),
    *("time_start", "time_end", "duration_ms", "queued_ms", "seconds", "elapsed_s", "uptime_s"),
    *("cpu", "memory", "device", "queue", "workers", "mqtt", "received", "time"),
}
PROPERTIES = {"Response Topic": "ResponseTopic", "Correlation Data": "CorrelationData"}

_BLOCK = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass
class Line:
    """One message of an example: to the server or from it, its properties and its payload."""

    number: int
    sent: bool
    topic: str
    properties: dict[str, str] = field(default_factory=dict)
    payload: str = ""

    @property
    def body(self) -> dict[str, Any]:
        """The payload as an object; an empty one is empty."""
        parsed: dict[str, Any] = json.loads(self.payload or "{}")
        return parsed


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: `kind` and `name` are the words after its fence."""

    number: int
    kind: str
    name: str
    text: str

    def lines(self) -> list[Line]:
        """What an exchange consists of."""
        lines: list[Line] = []
        for number, text in enumerate(self.text.splitlines(), start=self.number + 1):
            if text[:2] in ("> ", "< "):
                lines.append(Line(number, text[0] == ">", text[2:]))
            elif not lines[-1].payload and (found := re.fullmatch(r"([A-Z][\w ]+): (.+)", text)):
                lines[-1].properties[found[1]] = found[2]
            else:
                lines[-1].payload += text
        return lines


def blocks(text: str, first_line: int = 1) -> list[Block]:
    """The fenced blocks of a page."""
    return [
        Block(first_line + text.count("\n", 0, found.start()), found[1], found[2], found[3])
        for found in _BLOCK.finditer(text)
    ]


def sections(page: Path) -> dict[str, list[Block]]:
    """The blocks below each heading of the second level."""
    text = page.read_text(encoding="utf-8")
    starts = [found.start() for found in re.finditer(r"^## ", text, re.MULTILINE)]
    parts = [
        (text[:start].count("\n") + 1, text[start:end]) for start, end in zip(starts, [*starts[1:], None], strict=True)
    ]
    return {part.split("\n")[0].removeprefix("## "): blocks(part, line) for line, part in parts}


SECTIONS = sections(PROTOCOL)


@pytest.fixture(scope="module")
def own_bench(grounds: Grounds) -> Iterator[Bench]:
    """For a broker and a server whose functions no other test sees."""
    bench = Bench(grounds)
    yield bench
    bench.clear()


@pytest.fixture(scope="module")
def own_broker(own_bench: Bench) -> Broker:
    """The broker that the pages speak of."""
    return own_bench.broker()


@pytest.fixture(scope="module")
def node(own_bench: Bench, own_broker: Broker) -> Server:
    """The server that the pages speak of."""
    secrets = own_bench.grounds.new_folder("secrets")
    (secrets / "WEATHER_KEY").write_text("a key\n", encoding="utf-8")
    server = own_bench.server(own_broker, {"node": NODE, "sandbox_secrets_dir": secrets})
    server.node = NODE
    return server.start()


@pytest.fixture
def reader(own_broker: Broker, node: Server) -> Iterator[Client]:
    """A client of a server that has no functions yet."""
    with Client(own_broker.port) as client:
        for name in client.request("faas/admin/list")["functions"]:
            client.request(f"faas/admin/delete/{name}")
    with Client(own_broker.port) as client:
        yield client


@pytest.mark.parametrize("section", [name for name, found in SECTIONS.items() if any(b.kind == "mqtt" for b in found)])
def test_the_examples_of_the_protocol_are_what_the_server_says(reader: Client, section: str) -> None:
    given = SECTIONS[SETTING] + SECTIONS[section]
    settings = {block.name: tomllib.loads(block.text) for block in given if block.kind == "toml"}
    for block in given:
        if block.kind == "python":
            reader.deploy(block.name, block.text, config=settings.get(block.name))
        elif block.kind == "mqtt":
            play(reader, block)


def test_every_topic_of_the_protocol_has_an_example() -> None:
    page = PROTOCOL.read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(faas/[^`]+)`(?: \| `(faas/[^`]+)`)?", page, re.MULTILINE))
    promised = {topic for row in listed for topic in row if topic}
    shown = {line.topic for found in SECTIONS.values() for b in found if b.kind == "mqtt" for line in b.lines()}
    assert promised
    for topic in promised:
        pattern = re.sub(r"<\w+>", r"[\\w-]+", topic)
        assert any(re.fullmatch(pattern, each) for each in shown), f"no example shows {topic}"


def test_the_first_function_of_the_readme_answers(own_broker: Broker, reader: Client, tmp_path: Path) -> None:
    listen, write, uploaded, call, answered, commands = sections(README)["A first function"]
    environ = at_home(tmp_path, own_broker.port)
    heard = tmp_path / "heard"
    with heard.open("wb") as out:
        listener = subprocess.Popen(["bash", "-c", f"exec {listen.text}"], stdout=out, env=environ, cwd=tmp_path)
    try:
        eventually(lambda: is_heard(reader, heard), "the listener to listen")
        for typed, shown in ((write, uploaded), (call, answered)):
            subprocess.run(["bash", "-ec", typed.text], env=environ, cwd=tmp_path, check=True, timeout=PATIENCE_S)
            pattern = glob(shown.text.strip())
            eventually(lambda: pattern.search(heard.read_text(encoding="utf-8")), shown.text)  # noqa: B023
    finally:
        listener.terminate()
        listener.wait(PATIENCE_S)
    done = subprocess.run(
        ["bash", "-ec", commands.text], env=environ, cwd=tmp_path, check=True, timeout=PATIENCE_S, capture_output=True
    )
    assert done.stdout.splitlines()[-1] == b'"Hello, Pi!"'


def test_the_way_from_a_sensor_to_an_alert_is_as_it_is_told(own_broker: Broker, reader: Client, tmp_path: Path) -> None:
    environ = at_home(tmp_path, own_broker.port)
    typed = []
    with Client(own_broker.port, topics=("alerts/#",)) as people:
        for kind, name, text in _BLOCK.findall(FIRST_FUNCTION.read_text(encoding="utf-8")):
            if kind != "sh":
                (tmp_path / name).write_text(text, encoding="utf-8")
            elif not name:
                typed += text.splitlines()
                done = subprocess.run(
                    ["bash", "-ec", text], env=environ, cwd=tmp_path, timeout=PATIENCE_S * 2, capture_output=True,
                    text=True, check=False,
                )  # fmt: skip
                assert done.returncode == 0, f"{text}{done.stdout}{done.stderr}"
            if "mosquitto_pub" in text:
                wait_records(reader, "frost", 5)
        alerts = [json.loads(message.payload) for message in people.seen]
    assert alerts == ["all well in the shed", "frost in the shed", "all well in the shed"]
    assert len([line for line in typed if line.startswith("tinyfaas ")]) == 7
    assert "bad_request" in done.stdout


def test_the_functions_that_are_shown_do_what_is_said(reader: Client) -> None:
    shown = [block for found in sections(FUNCTIONS).values() for block in found]
    settings = {block.name: tomllib.loads(block.text) for block in shown if block.kind == "toml"}
    for block in shown:
        if block.kind == "python":
            reader.deploy(block.name, block.text, config=settings.get(block.name))
    assert reader.call("hello", "Pi", loud=True) == "HELLO, PI!"
    assert [reader.call("readings", value) for value in (1, 2)] == [[1, 1.0], [2, 1.5]]
    assert [reader.call("count") for _ in range(2)] == [1, 2]
    assert [reader.call("watering", "b1", moisture) for moisture in (0.1, 0.4)] == [True, False]
    due = [each["schedule"] for each in reader.request("faas/admin/info/nightly")["schedules"]]
    assert due == ["0 3 * * * Europe/Berlin", "every 900 s"]
    assert reader.call("weather") == {"units": "metric", "key_has": 5}
    for celsius in (29, 31):
        reader.publish("sensors/kitchen/temperature", str(celsius))
    found = wait_records(reader, "alarm", 2)
    assert {str(record["result"]) for record in found} == {"None", "it is hot in the kitchen"}
    assert (
        reader.request("faas/admin/info/count")["config"]["retry"]["attempts"] == settings["count"]["retry"]["attempts"]
    )


def test_the_functions_for_devices_are_python_and_their_settings_are_known(reader: Client) -> None:
    """What they need this computer hasn't; so none is run."""
    shown = sections(FUNCTIONS)["Devices"]
    settings = {block.name: tomllib.loads(block.text) for block in shown if block.kind == "toml"}
    code = {block.name: block.text for block in shown if block.kind == "py"}
    assert set(code) == set(settings) == {"button", "thermometer", "photo"}
    for name, text in code.items():
        compile(text, name, "exec")
        (device,) = settings[name]["devices"]
        answer = reader.upload(name, "def main(): pass", config=settings[name])
        assert answer["status"] == "ok" or f"this computer has no {device}" in answer["error"], answer


def is_heard(client: Client, file: Path) -> bool:
    """Whether somebody who listens to answers writes them to a file."""
    client.publish("faas/response/ping", "?")
    return b"/ping" in file.read_bytes()


def at_home(home: Path, port: int) -> dict[str, str]:
    """The variables of a reader whose clients speak to this port without being told so."""
    for program in ("mosquitto_pub", "mosquitto_sub"):
        (home / program).write_text(f"-h 127.0.0.1\n-p {port}\n", encoding="utf-8")
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return {"PATH": path, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "TINYFAAS_MQTT_PORT": str(port)}


def play(client: Client, block: Block) -> None:
    """Send what an example sends, and wait for all that it says comes back."""
    lines = block.lines()
    start = 0
    for line in lines:
        if line.sent:
            start = len(client.seen)
            properties: dict[str, Any] = {PROPERTIES[name]: value for name, value in line.properties.items()}
            if "CorrelationData" in properties:
                properties["CorrelationData"] = properties["CorrelationData"].encode()
            client.publish(line.topic, line.payload, **properties)
        else:
            expect(client, line, start, labelled=any("request_id" in each.payload for each in lines if each.sent))
    if all(line.sent for line in lines):
        expect_silence(client, lines[-1])


def expect(client: Client, line: Line, start: int, *, labelled: bool) -> None:
    """Wait for a message that is like the one on the page; what came instead is told."""

    def is_like(message: Message) -> bool:
        return message.topic == line.topic and not list(differences(line.body, message.body, labelled=labelled))

    where = f"{PROTOCOL.name}:{line.number}"
    try:
        message = client.wait(is_like, f"{where}: {line.topic}", start, timeout_s=10.0)
    except AssertionError:
        came = [each for each in client.seen[start:] if each.topic == line.topic]
        said = "\n".join(text for each in came[-1:] for text in differences(line.body, each.body, labelled=labelled))
        pytest.fail(f"{where}: {line.topic}: {said or 'nothing came'}", pytrace=False)
    assert message.retain == (line.properties.get("Retain") == "true"), where
    for name, is_so in (
        ("Correlation Data", (message.correlation or b"").decode()),
        ("Content Type", message.content_type),
    ):
        assert line.properties.get(name, is_so) == is_so, f"{where}: {name}"


def expect_silence(client: Client, line: Line) -> None:
    """A request that nobody answers: one after it, which takes the same way, is answered first."""
    client.ask(line.topic)
    client.settle()
    assert not client.answers(line.body["request_id"]), f"{PROTOCOL.name}:{line.number}: was answered"


def differences(page: Any, came: Any, where: str = "", *, labelled: bool, loose: bool = False) -> Iterator[str]:
    """What is not as the page has it, in words."""
    key = where.rpartition(".")[2]
    loose = (
        loose
        or key in VARYING
        or (key == "request_id" and not labelled)
        or (key == "version" and isinstance(page, str))  # the server's, not a function's
        or (key == "functions" and isinstance(page, dict))
    )
    if isinstance(page, dict) and isinstance(came, dict):
        if page.keys() != came.keys():
            yield f"{where}: has {sorted(came)}, the page {sorted(page)}"
        for name in page.keys() & came.keys():
            yield from differences(page[name], came[name], f"{where}.{name}", labelled=labelled, loose=loose)
    elif isinstance(page, list) and isinstance(came, list) and len(page) == len(came):
        for one, other in zip(page, came, strict=True):
            yield from differences(one, other, where, labelled=labelled, loose=loose)
    elif isinstance(page, str) and isinstance(came, str):
        if not loose and not glob(page).fullmatch(came):
            yield f"{where}: is {came!r}, on the page {page!r}"
    elif loose and (came is None or {type(page), type(came)} <= {int, float}):
        return
    elif type(page) is not type(came) or (page != came and not loose):
        yield f"{where}: is {came!r}, on the page {page!r}"


def glob(text: str) -> re.Pattern[str]:
    """A pattern for a text in which … stands for anything."""
    return re.compile(".*".join(re.escape(part) for part in text.split("…")), re.DOTALL)
