"""Who gets in, and what may do what: over TLS, from another machine, with mosquitto's own clients."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from types import TracebackType

import pytest
from paho.mqtt.client import Client as Paho
from paho.mqtt.client import MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.harness.waiting import eventually
from tests.hosts.appliance import Appliance
from tests.hosts.control import Control
from tests.hosts.grown import AT_ONCE
from tests.hosts.host import Host

_PATIENCE_S = 20.0


class Party:
    """Someone with an account, or without, who speaks TLS with a broker."""

    def __init__(self, host: Host, ca: Path, account: tuple[str, str] | None) -> None:
        self._flags = ["-h", host.cable.address, "-p", "8883", "--cafile", str(ca), "-V", "5"]
        self._flags += ["-u", account[0], "-P", account[1]] if account else []

    def publish(self, topic: str, text: str = "{}", *more: str) -> subprocess.CompletedProcess[str]:
        """Publish at QoS 1, and wait for the acknowledgement."""
        command = ["mosquitto_pub", *self._flags, "-q", "1", "-t", topic, "-m", text, *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)

    def listen(self, *topics: str) -> Ear:
        """Subscribe, until the broker says that we are."""
        return Ear([*self._flags, *(word for topic in topics for word in ("-t", topic))])


class Ear:
    """What comes to a subscriber, as lines of topic and payload."""

    def __init__(self, flags: list[str]) -> None:
        self._process = subprocess.Popen(
            ["stdbuf", "-oL", "mosquitto_sub", "-v", "-d", "-q", "1", *flags], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("Subscribed"):
                return
        raise AssertionError("the connection was refused")

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def until(self, word: str) -> list[str]:
        """All that comes until a line with this word has come, too."""
        assert self._process.stdout is not None
        heard: list[str] = []
        for line in self._process.stdout:
            if not line.startswith(("Client ", "Subscribed")):
                heard.append(line.rstrip())
            if word in line and not line.startswith("Client "):
                return heard
        raise AssertionError(f"the connection ended before {word}; heard: {heard}")


@pytest.fixture
def open_host(grown: Control) -> Host:
    """The host whose broker others can reach, with accounts for two sensors."""
    return grown.hosts[-1]


@pytest.fixture
def ca(grown: Control, open_host: Host) -> Path:
    """The authority that the play has made."""
    return grown.folder / "credentials/ca/ca.crt"


@pytest.fixture
def admin(grown: Control, open_host: Host, ca: Path) -> Party:
    return Party(open_host, ca, ("admin", grown.credential(open_host, "admin")))


@pytest.fixture
def greenhouse(grown: Control, open_host: Host, ca: Path) -> Party:
    return Party(open_host, ca, ("greenhouse", grown.credential(open_host, "greenhouse")))


@pytest.fixture
def meters(grown: Control, open_host: Host, ca: Path) -> Party:
    return Party(open_host, ca, ("meters", grown.credential(open_host, "meters")))


@pytest.fixture
def ears(admin: Party) -> Iterator[Ear]:
    """An administrator who hears everything."""
    with admin.listen("#") as ear:
        yield ear


def test_nobody_gets_in_without_an_account(open_host: Host, ca: Path) -> None:
    for account in (None, ("admin", "raspberry"), ("nobody", "")):
        refused = Party(open_host, ca, account).publish("faas/invoke/hello")
        assert refused.returncode != 0
        assert "not authorised" in (refused.stderr + refused.stdout).lower().replace("z", "s")


def test_a_broker_whose_certificate_another_authority_signed_is_refused(
    open_host: Host, tmp_path: Path, grown: Control
) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         "/CN=another", "-keyout", tmp_path / "key", "-out", tmp_path / "ca.crt"], check=True, capture_output=True,
    )  # fmt: skip
    account = ("admin", grown.credential(open_host, "admin"))
    refused = Party(open_host, tmp_path / "ca.crt", account).publish("faas/invoke/hello")
    assert refused.returncode != 0
    assert "TLS error" in refused.stderr + refused.stdout


def test_a_sensor_publishes_and_invokes_what_it_is_given_and_nothing_else(ears: Ear, greenhouse: Party) -> None:
    for topic in ("faas/admin/list", "faas/invoke/other", "faas/response/invoke/hello", "sensors/meters/1", "reply/x"):
        greenhouse.publish(topic)
    greenhouse.publish("faas/invoke/hello", '{"args": ["permitted"]}')
    greenhouse.publish("sensors/greenhouse/temperature", "last-of-all")
    heard = ears.until("last-of-all")
    topics = {line.split()[0] for line in heard}
    assert {"faas/invoke/hello", "sensors/greenhouse/temperature"} <= topics
    assert topics <= {
        "faas/invoke/hello", "sensors/greenhouse/temperature", "faas/response/invoke/hello", *presence(topics),
    }  # fmt: skip
    assert all("permitted" in line for line in heard if line.startswith("faas/response/invoke/hello"))


def presence(topics: set[str]) -> set[str]:
    """What a server keeps telling."""
    return {topic for topic in topics if topic.startswith("faas/node/")}


def test_a_sensor_reads_its_own_answers_and_nothing_else(greenhouse: Party, meters: Party, admin: Party) -> None:
    with greenhouse.listen("#", "$SYS/#", "faas/response/#", "reply/+/#") as ear:
        admin.publish("faas/admin/list")
        admin.publish("faas/invoke/hello", '{"args": ["admin"]}')
        meters.publish("faas/invoke/hello", '{"args": ["meters"]}', "-D", "publish", "response-topic", "reply/meters/1")
        meters.publish("sensors/meters/1", "1")
        greenhouse.publish(
            "faas/invoke/hello", '{"args": ["own-answer"]}', "-D", "publish", "response-topic", "reply/greenhouse/1"
        )
        heard = ear.until("own-answer")
    assert [line.split()[0] for line in heard] == ["reply/greenhouse/1"]


def test_who_is_the_only_caller_of_a_function_may_be_given_its_common_answers(meters: Party) -> None:
    with meters.listen("faas/response/invoke/hello") as ear:
        meters.publish("faas/invoke/hello", '{"args": ["simple"]}')
        assert "Hello, simple!" in ear.until("simple")[-1]


def test_a_browser_gets_in_by_websockets_with_an_account_and_is_bound_like_others(
    grown: Control, open_host: Host, ca: Path
) -> None:
    answers: Queue[str] = Queue()

    def connect(password: str) -> Paho:
        client = Paho(CallbackAPIVersion.VERSION2, protocol=MQTTv5, transport="websockets")
        client.tls_set(str(ca))
        client.username_pw_set("greenhouse", password)
        client.on_connect = lambda *args: answers.put(f"connected: {args[3]}")
        client.on_subscribe = lambda *_: answers.put("subscribed")
        client.on_message = lambda _client, _data, message: answers.put(f"{message.topic} {message.payload.decode()}")
        client.connect(open_host.cable.address, 9001)
        client.loop_start()
        return client

    refused = connect("raspberry")
    assert answers.get(timeout=_PATIENCE_S) == "connected: Not authorized"
    refused.disconnect()
    refused.loop_stop()
    browser = connect(grown.credential(open_host, "greenhouse"))
    assert answers.get(timeout=_PATIENCE_S) == "connected: Success"
    browser.subscribe("#", 1)
    assert answers.get(timeout=_PATIENCE_S) == "subscribed"
    asked = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    asked.ResponseTopic = "reply/greenhouse/browser"
    browser.publish("faas/admin/list", "{}", 1)
    browser.publish("faas/invoke/hello", '{"args": ["browser"]}', 1, properties=asked)
    answer = answers.get(timeout=_PATIENCE_S)
    assert answer.startswith("reply/greenhouse/browser ")
    assert "Hello, browser!" in answer
    browser.disconnect()
    browser.loop_stop()


def test_an_administrator_sees_how_the_broker_is(admin: Party) -> None:
    with admin.listen("$SYS/broker/version") as ear:
        assert ear.until("mosquitto")


def test_keys_are_for_root_and_the_broker_alone(open_host: Host) -> None:
    files = open_host.files()
    assert files["/etc/mosquitto/tinyfaas/server.key"] == "f root:mosquitto 640"
    assert "/etc/mosquitto/tinyfaas/ca.key" not in files


def test_the_certificate_names_what_the_host_is_called_and_not_more(grown: Control, open_host: Host) -> None:
    certificate = grown.folder / "credentials" / open_host.name / "broker.crt"
    text = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-ext", "subjectAltName"], capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    assert f"DNS:{open_host.name}" in text
    assert f"IP Address:{open_host.cable.address}" in text


@pytest.mark.slow
def test_a_second_run_makes_no_new_certificate(grown: Control, open_host: Host) -> None:
    assert grown.play("site.yml", *AT_ONCE, "--limit", open_host.name).changed == {}


@pytest.mark.slow
def test_a_host_can_do_without_a_broker_of_its_own(grown: Control, open_host: Host) -> None:
    other = grown.hosts[1]
    with grown.given(other, tinyfaas_broker=open_host.name):
        grown.play("site.yml", *AT_ONCE, "--limit", other.name)
        both = Appliance(open_host)
        for host in (open_host, other):
            assert '"Hello, world!"' in both.cli("invoke", "hello", "--node", host.name)
        assert '"Hello, world!"' in Appliance(other).cli("invoke", "hello", "--node", other.name)
    grown.play("site.yml", *AT_ONCE, "--limit", other.name)
    eventually(lambda: "Hello" in Appliance(other).cli("invoke", "hello"), "the host to be on its own again")
