"""The server is killed again and again under a stream of sensor messages: none is lost, none recorded twice."""

from __future__ import annotations

import random
import threading
from collections import Counter

from tests.harness.bench import Bench
from tests.harness.client import Client, new_label
from tests.harness.events import records
from tests.harness.lapse import lapse
from tests.harness.waiting import eventually

KILLS = 10
PER_SECOND = 150


def test_no_sensor_message_is_lost_and_none_recorded_twice_over_ten_kills(bench: Bench) -> None:
    chance = random.Random(20_261_126)
    broker = bench.broker()
    server = bench.server(broker, {"workers": 3, "history_per_function": 10_000}).start()
    house = new_label("house")
    client = bench.client(broker, topics=("faas/#", f"{house}/out/#"))
    single, gathering, batching = (new_label(kind) for kind in ("single", "gathering", "batching"))
    value = "def main(event): return event['payload']"
    trigger = {"topic": f"{house}/in/#"}
    client.deploy(single, value, config={"trigger": [trigger], "output": {"topic": f"{house}/out/single"}})
    client.deploy(gathering, value, config={"trigger": [{"topic": f"{house}/+/a"}, {"topic": f"{house}/in/+"}]})
    client.deploy(batching, "def main(events): return [event['payload'] for event in events]",
                  config={"trigger": [{**trigger, "batch": {"events": 20, "seconds": 0.3}}]})  # fmt: skip
    sent = 0
    stop = threading.Event()

    def stream() -> None:
        nonlocal sent
        with Client(broker.port, topics=(f"{house}/nothing",)) as sensors:
            while not stop.wait(1 / PER_SECOND):
                sensors.publish(f"{house}/in/{'ab'[sent % 2]}", str(sent), wait=sent % 50 == 0)
                sent += 1
            sensors.publish(f"{house}/in/a", str(sent), wait=True)
            sent += 1

    streaming = threading.Thread(target=stream)
    streaming.start()
    for _ in range(KILLS):
        lapse(chance.uniform(0.1, 0.8))  # the moment is what is tried: it must not be chosen
        server.kill()
        server.start()
    stop.set()
    streaming.join()

    def recorded(function: str) -> Counter[int]:
        found: Counter[int] = Counter()
        for record in records(client, function):
            assert record["status"] == "success", record
            found.update(record["result"] if isinstance(record["result"], list) else [record["result"]])
        return found

    expected = dict.fromkeys(range(sent), 1)
    eventually(lambda: client.request("faas/admin/status")["queue"]["held"] == 0, "quiet", timeout_s=60.0)
    functions = (single, gathering, batching)
    eventually(lambda: all(len(recorded(each)) >= sent for each in functions), "all of them", timeout_s=60.0)
    assert [recorded(each) for each in functions] == [expected] * 3
    outputs = Counter(int(each.payload) for each in client.seen if each.topic == f"{house}/out/single")
    print(f"events: sent={sent} kills={KILLS} outputs_twice={sum(count > 1 for count in outputs.values())}")
    assert outputs.keys() == expected.keys()
