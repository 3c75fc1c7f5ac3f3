"""What is closed to the service, and to the functions in it."""

from __future__ import annotations

import json

from tests.hosts.appliance import Appliance

# All that a function finds out about secrets, by every way that leads out of an ordinary process.
_LOOKS = """
    import os
    from pathlib import Path

    def read(path):
        try:
            return Path(path).read_bytes().decode("utf-8", "replace")
        except OSError as error:
            return str(error)

    def main(*paths):
        found = [read(path) for path in paths]
        for process in Path("/proc").glob("[0-9]*"):
            found += [read(process / name) for name in ("environ", "cmdline")]
            found += [read(f"{process}/root{path}") for path in paths]
        for folder, _, names in os.walk("/run"):
            found += [read(os.path.join(folder, name)) for name in names]
        return {"environ": dict(os.environ), "found": found}
"""
# What the service's own account may do where nothing but the unit holds it: which folders it can write to.
_TRIES = """
    import os

    def writable():
        for folder, folders, _ in os.walk("/"):
            folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/sys")]
            if os.access(folder, os.W_OK):
                yield folder
                folders.clear()  # and all below it

    def main(*paths):
        seen = {}
        for path in paths:
            try:
                with open(path) as file:
                    seen[path] = file.read()
            except OSError as error:
                seen[path] = error.strerror
        return {"writable": sorted(writable()), "seen": seen, "user": os.getuid()}
"""
_ITS_OWN = {"/dev/mqueue", "/dev/shm", "/run/tinyfaas", "/tmp", "/var/lib/tinyfaas", "/var/tmp"}
_SECRET = "what-nobody-else-may-read"


def test_functions_run_in_bubblewrap(appliance: Appliance) -> None:
    assert json.loads(appliance.cli("status", "--json"))["limits"]["sandbox"] == "bubblewrap"


def test_a_function_finds_no_password_of_the_broker(appliance: Appliance) -> None:
    appliance.deploy("looks", _LOOKS)
    found = appliance.cli(
        "invoke", "looks", "/etc/tinyfaas/mqtt/password", "/run/credentials/tinyfaas.service/mqtt_password",
        "/root/.config/tinyfaas/password", "/etc/mosquitto/tinyfaas/passwords",
    )  # fmt: skip
    assert "No such file" in found
    for secret in (appliance.password, appliance.administrator[1]):
        assert secret not in found


def test_the_brokers_password_stands_where_only_root_and_the_service_read_it(appliance: Appliance) -> None:
    everywhere = appliance.host.sh(
        f"systemctl show tinyfaas; systemctl cat tinyfaas; cat /proc/{appliance.main_pid}/environ "
        f"/proc/{appliance.main_pid}/cmdline; journalctl --no-pager; cat /etc/tinyfaas/tinyfaas.toml"
    )
    assert "PATH=" in everywhere
    assert appliance.password not in everywhere
    files = "/etc/tinyfaas/mqtt/password", "/run/credentials/tinyfaas.service/mqtt_password"
    for file in files:
        tried = appliance.host.run("runuser", "--user", "pi", "cat", file, check=False)
        assert "Permission denied" in tried.stderr, file


def test_the_service_reads_no_homes_and_writes_nothing_but_its_own(appliance: Appliance) -> None:
    # What permissions don't refuse, the unit does.
    appliance.host.sh("mkdir --mode=755 /home/open; mkdir --mode=777 /opt/open /srv/open")
    appliance.host.write("/home/open/diary", _SECRET)
    with appliance.drop_in("Environment=TINYFAAS_SANDBOX_MODE=off"):
        appliance.deploy("tries", _TRIES)
        found = appliance.invoke("tries", "/home/open/diary", "/root/.config/tinyfaas/password")
    appliance.host.run("rm", "--recursive", "/home/open", "/opt/open", "/srv/open")
    assert found["user"] != 0
    assert _SECRET not in json.dumps(found)
    assert set(found["writable"]) <= _ITS_OWN
    assert "/var/lib/tinyfaas" in found["writable"]


def test_a_function_may_use_what_belongs_to_a_group_of_the_account(appliance: Appliance) -> None:
    appliance.host.write("/usr/local/share/pin", "high", 0o640)
    appliance.host.run("chgrp", "gpio", "/usr/local/share/pin")
    appliance.deploy("pin", "def main(): return open('/usr/local/share/pin').read()")
    assert appliance.invoke("pin") == "high"
    appliance.host.run("rm", "/usr/local/share/pin")


def test_other_users_see_nothing_of_its_data(appliance: Appliance) -> None:
    tried = appliance.host.run("runuser", "--user", "pi", "ls", "/var/lib/tinyfaas", check=False)
    assert "Permission denied" in tried.stderr
