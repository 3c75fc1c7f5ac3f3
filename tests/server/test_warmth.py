"""Workers that are kept warm, and idle ones that give way when memory is short."""

from __future__ import annotations

from tests.harness.bench import Bench
from tests.harness.client import Client
from tests.harness.waiting import eventually

ECHO = "def main(*args): return args"


def warm(client: Client, function: str) -> int:
    return int(client.request(f"faas/admin/info/{function}")["warm"])


def test_a_function_that_is_kept_warm_has_its_workers_before_anyone_calls(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"pool_idle_s": 1}).start()
    client = bench.client(broker)
    client.deploy("warm", ECHO, config={"min_warm": 2})
    eventually(lambda: warm(client, "warm") == 2, "two workers")
    server.restart()
    eventually(lambda: warm(client, "warm") == 2, "two workers after a restart")
    assert client.invoke("warm", 1)["cold"] is False


def test_a_worker_that_died_is_replaced_where_warmth_is_asked_for(bench: Bench) -> None:
    broker = bench.broker()
    bench.server(broker).start()
    client = bench.client(broker)
    client.deploy("warm", "import os\ndef main(die=False):\n    if die: os._exit(1)\n", config={"min_warm": 1})
    eventually(lambda: warm(client, "warm") == 1, "a worker")
    assert client.invoke("warm", True)["code"] == "crashed"
    eventually(lambda: warm(client, "warm") == 1, "another worker")


def test_a_function_that_can_not_start_is_not_started_without_end(bench: Bench) -> None:
    broker = bench.broker()
    bench.server(broker).start()
    client = bench.client(broker)
    client.deploy("once", "import os\nif os.path.exists('ran'): os._exit(1)\nopen('ran', 'w')\ndef main(): os._exit(1)",
                  config={"min_warm": 1})  # fmt: skip
    assert client.invoke("once")["code"] == "crashed"
    eventually(lambda: client.request("faas/admin/info/once")["state"] == "failing", "it to be left alone")
    assert client.request("faas/admin/status")["workers"]["started"] < 10


def test_idle_workers_end_when_memory_is_short_but_not_those_kept_warm(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"pool_min_available_mb": 10_000_000}).start()
    client = bench.client(broker)
    client.deploy("spare", ECHO)
    client.deploy("warm", ECHO, config={"min_warm": 1})
    eventually(lambda: warm(client, "warm") == 1, "a worker")
    server.log.wait(event="memory_short")
    eventually(lambda: warm(client, "spare") == 0, "the spare worker to end")
    assert warm(client, "warm") == 1
    assert client.call("spare", "still there") == ["still there"]
