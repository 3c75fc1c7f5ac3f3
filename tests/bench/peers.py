"""What people would use instead, each doing the same: it answers with what it was given.

Node-RED and AppDaemon are installed once, into `data/bench/`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.contestants import Contestant
from tests.bench.functions import ECHO
from tests.bench.progress import say
from tests.harness.installation import CHECKOUT
from tests.harness.waiting import free_port

NewFolder = Callable[[str], Path]

CACHE = CHECKOUT / "data" / "bench"
NODE_RED, APPDAEMON = "node-red@4", "appdaemon>=4.5,<5"

_SETTINGS = """\
module.exports = {{ uiPort: {port}, uiHost: "127.0.0.1", logging: {{ console: {{ level: "warn" }} }},
  flowFile: "flows.json", credentialSecret: false, telemetry: {{ enabled: false }} }};
"""
_FUNCTION = """\
const request = msg.payload;
return { payload: { request_id: request.request_id, status: "success", result: request.args[0] } };
"""
_APPDAEMON = """\
appdaemon:
  time_zone: UTC
  latitude: 0
  longitude: 0
  elevation: 0
  plugins:
    MQTT:
      type: mqtt
      namespace: mqtt
      client_host: 127.0.0.1
      client_port: {port}
      client_topics: ["{topic}"]
      client_qos: 1
"""
_APPS = "echo:\n  module: echo\n  class: Echo\n  plugin: MQTT\n"
_APP = """\
import json
from appdaemon.plugins.mqtt import mqttapi

class Echo(mqttapi.Mqtt):
    def initialize(self):
        self.listen_event(self.answer, "MQTT_MESSAGE", topic="{request}", namespace="mqtt")

    def answer(self, event_name, data, *args, **kwargs):
        request = json.loads(data["payload"])
        answer = {{"request_id": request["request_id"], "status": "success", "result": request["args"][0]}}
        self.mqtt_publish("{answer}", json.dumps(answer), qos=1, namespace="mqtt")
"""


@contextmanager
def all_peers(port: int, new_folder: NewFolder) -> Iterator[list[Contestant]]:
    """Those that could be started, while they run; of the others it is said why not."""
    with ExitStack() as kept:
        peers = []
        for start in (_node_red, _appdaemon, original):
            try:
                peers.append(kept.enter_context(start(port, new_folder)))
            except (OSError, subprocess.CalledProcessError, TimeoutError) as error:
                say(f"left out: {error}")
        yield peers


@contextmanager
def _node_red(port: int, new_folder: NewFolder) -> Iterator[Contestant]:
    home = CACHE / "node-red"
    program = home / "node_modules" / "node-red" / "red.js"
    if not program.exists():
        say(f"installing {NODE_RED} into data/bench/node-red")
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--prefix", home, "--no-audit", "--no-fund", NODE_RED], check=True, stdout=sys.stderr
        )
    folder = new_folder("node-red")
    topics = ("bench/node-red/request", "bench/node-red/answer")
    (folder / "settings.js").write_text(_SETTINGS.format(port=free_port()), encoding="utf-8")
    (folder / "flows.json").write_text(json.dumps(_flow(port, *topics)), encoding="utf-8")
    with _running(
        ["node", str(program), "--userDir", str(folder)], folder, Contestant("Node-RED", *topics), port
    ) as peer:
        yield peer


def _flow(port: int, request: str, answer: str) -> list[dict[str, object]]:
    place = {"x": 100, "y": 100, "z": "flow"}
    return [
        {"id": "flow", "type": "tab", "label": "echo"},
        {"id": "broker", "type": "mqtt-broker", "broker": "127.0.0.1", "port": port, "protocolVersion": "4",
         "keepalive": "60", "cleansession": True, "autoConnect": True, "clientid": "", "usetls": False},
        {**place, "id": "in", "type": "mqtt in", "topic": request, "qos": "1", "datatype": "json", "broker": "broker",
         "inputs": 0, "wires": [["echo"]]},
        {**place, "id": "echo", "type": "function", "func": _FUNCTION, "outputs": 1, "wires": [["out"]]},
        {**place, "id": "out", "type": "mqtt out", "topic": answer, "qos": "1", "retain": "false", "broker": "broker",
         "wires": []},
    ]  # fmt: skip


@contextmanager
def _appdaemon(port: int, new_folder: NewFolder) -> Iterator[Contestant]:
    home = CACHE / "appdaemon"
    program = home / "bin" / "appdaemon"
    if not program.exists():
        say(f"installing {APPDAEMON} into data/bench/appdaemon")
        venv.create(home, with_pip=True)
        install: list[str | Path] = [
            home / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            APPDAEMON,
        ]
        subprocess.run(install, check=True, stdout=sys.stderr)
    folder = new_folder("appdaemon")
    topics = ("bench/appdaemon/request", "bench/appdaemon/answer")
    apps = folder / "apps"
    apps.mkdir()
    (folder / "appdaemon.yaml").write_text(_APPDAEMON.format(port=port, topic=topics[0]), encoding="utf-8")
    (apps / "apps.yaml").write_text(_APPS, encoding="utf-8")
    (apps / "echo.py").write_text(_APP.format(request=topics[0], answer=topics[1]), encoding="utf-8")
    command = [str(program), "-c", str(folder), "-D", "WARNING"]
    with _running(command, folder, Contestant("AppDaemon", *topics), port) as peer:
        yield peer


@contextmanager
def original(port: int, new_folder: NewFolder, functions: Mapping[str, str] | None = None) -> Iterator[Contestant]:
    """The original design, with an echo or with other functions: name → code."""
    folder = new_folder("original")
    for name, code in (functions or {"echo": ECHO}).items():
        (folder / name).mkdir()
        (folder / name / "func.py").write_text(code, encoding="utf-8")
    first = next(iter(functions or ["echo"]))
    base = f"bench/original-{first}"
    peer = Contestant("original design", f"{base}/invoke/{first}", f"{base}/response/invoke/{first}", folder=folder)
    command = [sys.executable, str(Path(__file__).with_name("original.py")), str(port), base, str(folder)]
    with _running(command, folder, peer, port) as running:
        yield running


@contextmanager
def _running(command: list[str], folder: Path, peer: Contestant, port: int) -> Iterator[Contestant]:
    say(f"starting {peer.name}")
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "HOME": str(folder)},
        )  # fmt: skip
    try:
        try:
            peer.wait_answers(port)
        except TimeoutError:
            tail = (folder / "output.log").read_text(encoding="utf-8", errors="replace")[-1500:]
            raise TimeoutError(f"{peer.name} does not answer; its output ends:\n{tail}") from None
        yield replace(peer, pid=process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
