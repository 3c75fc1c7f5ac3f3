"""What `tinyfaas acl` prints is enough for a server and its functions, and no more than they need."""

from __future__ import annotations

import json
import shutil
import subprocess

from tests.harness.bench import Bench
from tests.harness.broker import ACCOUNT
from tests.harness.client import Client
from tests.harness.commandline import run

RELAY = "def main(event, context): context.publish(f\"out/{event['wildcards'][0]}\", event['payload'], qos=1)"
RELAYING = {
    "trigger": [{"topic": "in/+/value"}, {"topic": "$share/g/shared/#"}],
    "publish": ["out/#"],
    "output": {"topic": "results/relay"},
}


def test_a_broker_that_allows_what_is_printed_serves_and_denies_the_rest(bench: Bench, function: str) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    bench.client(broker).deploy(function, RELAY, config=RELAYING)
    bench.client(broker).deploy(f"{function}-plain", "def main(): return 1")
    ended = run(broker.port, "acl", "--user", ACCOUNT)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[1] == f"user {ACCOUNT}"
    at = lines.index(f"# {function}")
    assert lines[at + 1 :] == [
        "topic read in/+/value", "topic read shared/#", "topic write out/#", "topic write results/relay",
    ]  # fmt: skip
    said = json.loads(run(broker.port, "acl", "--json").stdout)
    assert said["user"] == "tinyfaas"
    assert said["functions"] == {
        function: {"read": ["in/+/value", "shared/#"], "write": ["out/#", "results/relay"]},
        f"{function}-plain": {"read": [], "write": []},
    }
    printed = {line.split(" ", 2)[2] for line in lines if line.startswith("topic ")}
    assert printed >= {*said["server"]["read"], *said["server"]["write"]}
    assert server.stop() == 0

    folder = bench.grounds.new_folder("acl")
    folder.chmod(0o700)
    acl = folder / "acl"
    acl.write_text(f"{ended.stdout}\nuser admin\ntopic readwrite #\n")
    acl.chmod(0o600)
    strict = bench.broker(password="secret", more=f"acl_file {acl}\n", talkative=True)
    program = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
    subprocess.run([program, "-b", str(strict.password_file), "admin", "secret"], check=True, capture_output=True)
    strict.stop()
    strict.start()
    server.broker = strict
    server.start(mqtt_username=ACCOUNT, mqtt_password="secret")
    with Client(strict.port, topics=("#",), account=("admin", "secret")) as admin:
        assert admin.call(f"{function}-plain") == 1
        admin.publish("in/kitchen/value", {"t": 21})
        assert admin.wait_topic("out/kitchen").body == {"t": 21}
        assert admin.invoke("nobody")["code"] == "not_found"
    assert server.stop() == 0
    denied = [line for line in strict.log().splitlines() if "Denied PUBLISH" in line]
    assert denied == []
