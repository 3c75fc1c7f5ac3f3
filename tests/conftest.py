"""What tests get by name: brokers, servers and clients. One broker and one server are shared by all who can."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator

import hypothesis
import pytest

from scripts.contract.traffic import Contract
from tests.harness.bench import Bench, Grounds
from tests.harness.broker import Broker
from tests.harness.client import Client, new_label
from tests.harness.contract import ASYNCAPI, Watch
from tests.harness.server import Server

# A shell has what it starts in the background ignore Ctrl-C, and with the suite the commands that tests end so.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("suite", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("suite")

_servers = pytest.StashKey[list[Server]]()
_missing = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def grounds(pytestconfig: pytest.Config) -> Iterator[Grounds]:
    """The folder, installation and outer bound of this run."""
    grounds = Grounds()
    pytestconfig.stash[_missing] = grounds.fence.missing
    yield grounds
    grounds.clear()


@pytest.fixture(scope="session")
def shared_bench(grounds: Grounds) -> Iterator[Bench]:
    """What lasts for the whole run."""
    bench = Bench(grounds)
    yield bench
    bench.clear()


@pytest.fixture(scope="session")
def broker(shared_bench: Bench) -> Iterator[Broker]:
    """The broker that most tests share; what nobody else listens to is held to the contract too."""
    broker = shared_bench.broker()
    with Client(broker.port, keeps=False):
        yield broker


@pytest.fixture(scope="session")
def shared_server(shared_bench: Bench, broker: Broker) -> Server:
    """The server that most tests share."""
    return shared_bench.server(broker, {"workers": 3, "uploads_threads": 2}).start()


@pytest.fixture
def server(shared_server: Server, request: pytest.FixtureRequest) -> Server:
    """The shared server; it must be alive, and its log is shown with a failure."""
    request.node.stash[_servers] = [shared_server]
    assert shared_server.process is not None
    assert shared_server.process.poll() is None, f"the shared server has ended:\n{shared_server.log.tail()}"
    return shared_server


@pytest.fixture
def client(server: Server, broker: Broker) -> Iterator[Client]:
    """A new client of the shared server, by MQTT 5."""
    with Client(broker.port) as client:
        yield client


@pytest.fixture
def bench(grounds: Grounds, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Brokers, servers and clients of the test's own, which may be stopped and killed."""
    bench = Bench(grounds)
    request.node.stash[_servers] = bench.servers
    yield bench
    bench.clear()


@pytest.fixture
def function() -> str:
    """A function name that no other test uses."""
    return new_label("function")


@pytest.fixture(scope="session", autouse=True)
def watch() -> Iterator[Watch]:
    """Every message that a client hears is held against docs/asyncapi.yaml."""
    Client.watch = Watch(Contract.at(ASYNCAPI))
    yield Client.watch
    Client.watch = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Fail a test that has seen what breaks the contract."""
    yield
    if Client.watch:
        Client.watch.hold()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    """The same with what came later."""
    yield
    if Client.watch:
        Client.watch.hold()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failed test, show the end of its servers' logs."""
    report = yield
    if report.failed:
        for server in item.stash.get(_servers, []):
            report.sections.append((f"log of {server.node}", server.log.tail()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say so if the servers ran without an outer bound."""
    if missing := config.stash.get(_missing, ""):
        terminalreporter.write_line(f"Note: {missing}")
