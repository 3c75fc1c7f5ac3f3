"""What closes functions in: control groups, user namespaces, bubblewrap."""

from __future__ import annotations

import os
import pwd
from typing import Any

from tinyfaas.cli.doctor.device import Device
from tinyfaas.cli.doctor.finding import Finding, State, ok, skip, warn

_SWITCHES = ("cgroup_enable=memory", "cgroup_memory=1")
_CMDLINES = ("/boot/firmware/cmdline.txt", "/boot/cmdline.txt")  # since bookworm, and before
_SYSCTLS = {
    "kernel.unprivileged_userns_clone": "1",
    "user.max_user_namespaces": "15000",
    "kernel.apparmor_restrict_unprivileged_userns": "0",
}


def memory_cgroup(device: Device) -> Finding:
    """The kernel can limit memory by control group; Raspberry Pi OS starts without."""
    controllers = device.text("/sys/fs/cgroup/cgroup.controllers")
    if controllers is not None and "memory" in controllers.split():
        return ok("on, cgroup v2")
    if controllers is None and device.at("/sys/fs/cgroup/memory").is_dir():
        return warn(
            "bound to cgroup v1: memory is limited by looking at what workers use",
            "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line, then: sudo reboot",
        )
    started = (device.text("/proc/cmdline") or "").split()
    found = "off: MemoryMax= does nothing, and functions' memory is limited by looking at what they use"
    if _SWITCHES[0] in started:
        return warn(f"{found}; the kernel was told {_SWITCHES[0]}", "sudo apt full-upgrade, then: sudo reboot")
    file = next((file for file in _CMDLINES if device.at(file).is_file()), None)
    if file is None:
        return warn(found, f"add {' '.join(_SWITCHES)} to the kernel's command line, then: sudo reboot")
    lacking = [word for word in _SWITCHES if word not in (device.text(file) or "").split()]
    if _SWITCHES[0] not in lacking:
        return warn(f"{found}; {file} switches it on", "sudo reboot")
    return warn(found, f"sudo sed -i '1s/$/ {' '.join(lacking)}/' {file} && sudo reboot")


def user_namespaces(device: Device) -> Finding:
    """An unprivileged process may use user namespaces: what the sandbox is made of."""
    if device.settings.config.sandbox.mode == "off":
        return skip("the sandbox is switched off (sandbox.mode)")
    if not device.at("/proc/self/ns/user").is_symlink():
        return _without_sandbox(device, "this kernel has none", "use a kernel with CONFIG_USER_NS")
    said = {name: device.text(f"/proc/sys/{name.replace('.', '/')}") for name in _SYSCTLS}
    bad = {
        "kernel.unprivileged_userns_clone": "0",
        "user.max_user_namespaces": "0",
        "kernel.apparmor_restrict_unprivileged_userns": "1",
    }
    closed = [name for name in _SYSCTLS if said[name] == bad[name]]
    if closed:
        lines = "\\n".join(f"{name}={_SYSCTLS[name]}" for name in closed)
        return _without_sandbox(
            device,
            "refused: " + ", ".join(f"{name} = {said[name]}" for name in closed),
            f"printf '{lines}\\n' | sudo tee /etc/sysctl.d/60-tinyfaas.conf && sudo sysctl --system",
        )
    return ok("allowed")


def bubblewrap(device: Device) -> Finding:
    """The program `bwrap` is there, and closes a process in when tried with the server's own options and account."""
    if device.settings.config.sandbox.mode == "off":
        return skip("the sandbox is switched off (sandbox.mode)")
    if device.program("bwrap") is None:
        return _without_sandbox(device, "not installed", "sudo apt install bubblewrap")
    if not device.is_here:
        return skip("installed; not tried")
    from tinyfaas import sandbox

    as_whom = f" as {device.account}" if os.geteuid() == 0 else ""
    if why := sandbox.why_not(_other(device.account) if as_whom else {}):
        return _without_sandbox(
            device, f"does not work{as_whom}: {why}", "see the check `user namespaces`, and docs/isolation.md"
        )
    version = (device.output("bwrap", "--version") or "").rpartition(" ")[2]
    return ok(f"works{as_whom}, version {version or 'unknown'}")


def setpriv(device: Device) -> Finding:
    """`setpriv` is there: without the sandbox, it keeps workers from gaining privileges."""
    found = device.program("setpriv")
    if found is None:
        return warn("not installed: workers outside of a sandbox could gain privileges", "sudo apt install util-linux")
    return ok(f"/{os.path.relpath(found, device.root)}")


def _other(account: str) -> dict[str, Any]:
    """What makes `subprocess` start a program as another account."""
    found = pwd.getpwnam(account)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def _without_sandbox(device: Device, found: str, fix: str) -> Finding:
    """Without a sandbox no function runs where one is required; elsewhere they run without."""
    if device.settings.config.sandbox.mode == "required":
        return Finding(State.FAIL, f"{found}; no function runs (sandbox.mode = required)", fix)
    return Finding(State.WARN, f"{found}; functions run without a sandbox", fix)
