"""The original design, written anew from its description, to be measured beside.

A thread for each call; the code read and executed afresh in the server's own process at each; the registry and the
whole history rewritten at each. Run as `python original.py PORT BASE_TOPIC FOLDER`, where FOLDER holds NAME/func.py.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

PORT, BASE, FOLDER = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
FUNCTIONS_FILE, LOGS_FILE = FOLDER / "functions.json", FOLDER / "logs.json"

functions: dict[str, dict[str, Any]] = {
    code.parent.name: {"path": str(code), "calls": 0} for code in FOLDER.glob("*/func.py")
}
logs: dict[str, list[dict[str, Any]]] = {name: [] for name in functions}
saving = threading.Lock()


def subscribe(client: Client, *_: Any) -> None:
    client.subscribe(f"{BASE}/invoke/#", 1)


def start_thread(client: Client, _data: Any, message: MQTTMessage) -> None:
    threading.Thread(target=execute, args=(client, message), daemon=True).start()


def execute(client: Client, message: MQTTMessage) -> None:
    name = message.topic.rpartition("/")[2]
    request = json.loads(message.payload)
    answer = {"request_id": request.get("request_id"), "function": name, "time_start": time.time()}
    try:
        namespace: dict[str, Any] = {}
        exec(compile(Path(functions[name]["path"]).read_text(), name, "exec"), namespace)
        answer |= {"status": "success", "result": namespace["main"](*request.get("args", []))}
    except Exception as error:  # noqa: BLE001  (whatever a function raises is its answer)
        answer |= {"status": "error", "error": str(error)}
    answer["time_end"] = time.time()
    save(name, answer)
    client.publish(f"{BASE}/response/invoke/{name}", json.dumps(answer), message.qos)


def save(name: str, answer: dict[str, Any]) -> None:
    with saving:
        functions[name]["calls"] += 1
        logs[name].append(answer)
        FUNCTIONS_FILE.write_text(json.dumps(functions, indent=2))
        LOGS_FILE.write_text(json.dumps(logs, indent=2))


client = Client(CallbackAPIVersion.VERSION2)
client.on_connect = subscribe
client.on_message = start_thread
client.connect("127.0.0.1", PORT)
client.loop_forever()
