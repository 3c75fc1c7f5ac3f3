from tests.harness.client import Client


def test_hello(client: Client, function: str) -> None:
    client.deploy(function, "def main(x): return x")
    assert client.call(function, 3) == 3
