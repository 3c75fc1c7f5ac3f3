"""What is closed to the service, and to the functions in it."""

from __future__ import annotations

from tests.hosts.appliance import PASSWORD, Appliance

_LOOKS = """
    import os
    from pathlib import Path

    def main():
        seen = {}
        for process in ("/proc", *Path("/proc").glob("[0-9]*")):
            seen[str(process)] = Path(process, "environ").read_bytes().decode() if Path(process, "environ").exists() else ""
        credentials = [str(path) for path in Path("/run").rglob("*")] if Path("/run").exists() else []
        return {"environ": dict(os.environ), "processes": seen, "run": credentials, "etc": os.listdir("/etc")}
"""


def test_functions_run_in_bubblewrap(appliance: Appliance) -> None:
    assert '"sandbox": "bubblewrap"' in appliance.cli("status", "--json")


def test_a_function_does_not_find_the_brokers_password(appliance: Appliance) -> None:
    appliance.deploy("looks", _LOOKS)
    found = appliance.cli("invoke", "looks")
    assert PASSWORD not in found
    assert "credentials" not in found.replace("ca-certificates", "")
