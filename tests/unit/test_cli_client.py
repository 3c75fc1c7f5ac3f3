"""What the command line's client says where there is no broker, or no real one."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tinyfaas.cli.client import Inquiry, exchange
from tinyfaas.cli.failures import Unreachable
from tinyfaas.config import Mqtt
from tinyfaas.errors import ConfigError

INQUIRY = Inquiry("faas/admin/list", {}, "faas/response/admin/list", "faas/response/error", 0.2, 0.2)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def ask(port: int, host: str = "127.0.0.1") -> str:
    """Why there is no answer."""
    with pytest.raises(Unreachable) as failed:
        list(exchange(Mqtt(host=host, port=port, connect_timeout_s=5.0), INQUIRY))
    return str(failed.value)


def test_a_port_where_nobody_listens_is_named(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    assert ask(port) == f"no broker at 127.0.0.1:{port}: connection refused"


def test_a_host_that_does_not_exist_is_named() -> None:
    assert ask(1883, "a..b").startswith("no broker at a..b:1883: ")


def test_an_ipv6_address_is_told_from_its_port() -> None:
    assert ask(1, "::1").startswith("no broker at [::1]:1: ")


def test_something_that_listens_and_says_nothing_is_no_broker(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert ask(port) == f"no broker at 127.0.0.1:{port}: something listens there and says nothing"


def test_tls_files_that_can_not_be_used_are_a_matter_of_settings() -> None:
    with pytest.raises(ConfigError):
        list(exchange(Mqtt(tls=True, tls_ca_file="/nowhere"), INQUIRY))
