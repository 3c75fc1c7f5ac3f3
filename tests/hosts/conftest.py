"""Booted hosts for tests. Where none can be booted, the tests are skipped, and say why."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.hosts.appliance import Appliance
from tests.hosts.fleet import Fleet, missing
from tests.hosts.grown import control, grown, hosts  # noqa: F401  (fixtures)
from tests.hosts.image import SUITES

_PATIENCE_S = 1200  # the first run on a machine builds images, and Ansible takes its time on a busy one
_appliances = pytest.StashKey[Appliance]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test on hosts the time that they take, or the reason why there are none."""
    why = missing()
    for item in items:
        if "fleet" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(_PATIENCE_S))
            if why:
                item.add_marker(pytest.mark.skip(reason=why))


class BySharedHosts(LoadScopeScheduling):  # type: ignore[misc]
    """Tests that share hosts run in one process, where scripts/test takes several; faults have one."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/faults/"):
            return "faults"
        return next((suite for suite in SUITES if f"[{suite}" in nodeid), "fleet")


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> BySharedHosts:
    """Which process runs which tests."""
    return BySharedHosts(config, log)


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """All hosts of this run."""
    with Fleet() as fleet:
        yield fleet


@pytest.fixture(scope="session", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """A version of Debian; Raspberry Pi OS goes by the same names."""
    return str(request.param)


@pytest.fixture(scope="session")
def shared_appliance(fleet: Fleet, suite: str) -> Appliance:
    """The appliance of a suite that most tests share. Last of all it is uninstalled."""
    (host,) = fleet.boot(suite)
    appliance = Appliance(host)
    appliance.install()
    appliance.deploy("echo", "def main(*args): return list(args)")
    return appliance


@pytest.fixture
def appliance(shared_appliance: Appliance, request: pytest.FixtureRequest) -> Appliance:
    """The shared appliance, up and serving; what was logged is shown with a failure."""
    request.node.stash[_appliances] = shared_appliance
    shared_appliance.host.run("systemctl", "start", "mosquitto", "tinyfaas")
    shared_appliance.wait_active()
    shared_appliance.wait_connected()
    return shared_appliance


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failed test, show the end of what its appliance logged."""
    report = yield
    if report.failed and (appliance := item.stash.get(_appliances, None)):
        try:
            report.sections.append((f"log of {appliance.host.name}", appliance.log()))
        except (AssertionError, OSError) as error:
            report.sections.append((f"log of {appliance.host.name}", f"not to be had: {error}"))
    return report
