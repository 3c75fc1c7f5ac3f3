"""Two servers with one name: the broker lets only one of them be there, and the other says why it is not."""

from __future__ import annotations

from tests.harness.bench import Bench


def test_the_server_whose_name_was_taken_says_so_and_stands_by(bench: Bench, function: str) -> None:
    broker = bench.broker()
    first = bench.server(broker).start()
    client = bench.client(broker)
    client.deploy(function, "def main(): return 'first'")
    second = bench.server(broker)
    second.node, second.instance = first.node, first.instance
    second.start()
    rivals = [first.log.wait(event="another_server_has_our_name", client_id=f"tinyfaas-{first.node}{connection}")
              for connection in ("", "-admin")]  # fmt: skip
    client.deploy(function, "def main(): return 'second'")
    calls = {client.call(function) for _ in range(100)}
    thrown_out = len(second.log.records(event="disconnected"))
    print(f"one name twice: calls=100 answered_by={sorted(calls)} thrown_out={thrown_out}")
    assert {each["instance"] for each in rivals} == {second.instance}
    assert calls == {"second"}
    assert thrown_out == 0
