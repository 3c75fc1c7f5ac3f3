"""The checks in their order, and how one is made: with a limit, so that nothing hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from tinyfaas.cli.doctor import broker, hardware, isolation, python, service, sharing, storage, trust
from tinyfaas.cli.doctor.device import Device
from tinyfaas.cli.doctor.finding import Finding, State, warn


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at; the docstring of `look` says what is well. `limit_s` bounds it, and then it is `late`."""

    name: str
    look: Callable[[Device], Finding]
    limit_s: float = 5.0
    late: State = State.WARN

    def make(self, device: Device) -> Finding:
        """Look, and return what was found, or that it took too long. Raises nothing."""
        found: list[Finding] = []

        def look() -> None:
            try:
                found.append(self.look(device))
            except Exception as error:  # noqa: BLE001  (one check must not keep the others from being made)
                found.append(warn(f"could not be looked at: {type(error).__name__}: {error}", "please report this"))

        # A daemon: a network disk that hangs would hold up the end of this process too.
        thread = threading.Thread(target=look, name=self.name, daemon=True)
        thread.start()
        thread.join(self.limit_s)
        return found[0] if found else Finding(self.late, f"no answer within {self.limit_s:g} s", "try again")


CHECKS = (
    Check("config", service.configuration),
    Check("service", service.unit),
    Check("broker", broker.reachable, late=State.FAIL),
    Check("broker limits", broker.limits),
    Check("server", service.answer),
    Check("group", sharing.group),
    Check("signers", trust.signers),
    Check("secrets", trust.secrets),
    Check("memory cgroup", isolation.memory_cgroup),
    Check("delegation", service.delegation),
    Check("user namespaces", isolation.user_namespaces),
    Check("bubblewrap", isolation.bubblewrap, limit_s=11.0),
    Check("setpriv", isolation.setpriv),
    Check("python", python.interpreter),
    Check("pip and venv", python.builders),
    Check("piwheels", python.piwheels),
    Check("clock", hardware.clock),
    Check("writable disk", storage.writable, late=State.FAIL),
    Check("free disk", storage.room, late=State.FAIL),
    Check("memory", hardware.memory),
    Check("under-voltage", hardware.under_voltage),
    Check("throttling", hardware.throttling),
    Check("temperature", hardware.temperature),
)
