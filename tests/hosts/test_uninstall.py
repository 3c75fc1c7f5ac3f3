"""Uninstalling, on the appliance that all other tests have used."""

from __future__ import annotations

from tests.hosts.appliance import TREE, WHEELS, Appliance

# What the tests put there themselves, and what a running system writes.
_NOT_OURS = (TREE, WHEELS, "/root/", "/var/log/", "/var/lib/systemd/", "/var/lib/mosquitto", "/tmp", "/var/tmp",
             "/etc/machine-id", "/var/cache/", "/run")  # fmt: skip
_BY_EVERY_ACCOUNT = {f"/etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow") for old in ("", "-")}


def test_uninstalling_leaves_the_data_and_purging_leaves_nothing(shared_appliance: Appliance) -> None:
    host = shared_appliance.host
    shared_appliance.uninstall()
    assert host.run("systemctl", "cat", "tinyfaas", check=False).returncode != 0
    assert host.run("test", "-e", "/var/lib/tinyfaas/functions.json", check=False).returncode == 0
    shared_appliance.uninstall("--purge")
    before, after = shared_appliance.untouched, host.files()
    left = sorted(path for path in after.keys() - before.keys() if not path.startswith(_NOT_OURS))
    missed = sorted(path for path in before.keys() - after.keys() if not path.startswith(_NOT_OURS))
    changed = sorted(
        f"{path}: {before[path]}, now {after[path]}" for path in before.keys() & after.keys()
        if before[path] != after[path] and not path.startswith(_NOT_OURS)
    )  # fmt: skip
    assert (set(left) - _BY_EVERY_ACCOUNT, missed, changed) == (set(), [], [])
    assert "tinyfaas" not in host.sh("cat /etc/passwd /etc/group; ps -eo args; systemctl list-units --all --no-legend")
    assert host.run("systemctl", "is-active", "mosquitto").stdout.strip() == "active"
