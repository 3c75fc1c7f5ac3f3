"""Sharing work with other nodes, see docs/fleet-sharing.md."""

from __future__ import annotations

from tinyfaas.cli.doctor.device import Device
from tinyfaas.cli.doctor.finding import Finding, ok, skip, warn

_AS_FLASHED = ("debian", "dietpi", "localhost", "raspberrypi")  # names that several devices may have come with
_SOON_S = 10.0
_REPAIR_S = 86_400


def group(device: Device) -> Finding:
    """In a group, the node's name is its own, it is soon back after its broker, and its session outlives a repair."""
    settings = device.settings
    if settings.problem:
        return skip("without the server's settings it is not known whether there is one")
    node, mqtt = settings.config.node, settings.mqtt
    if not node.group:
        return skip("node.group is not set: this node shares no work")
    told = f"{node.name} in {node.group}"
    if node.name in _AS_FLASHED:
        return warn(
            f"{told}: devices flashed alike have this name, and the broker keeps one session for all of them",
            'give each a name of its own: [node] name = "pi-01"',
        )
    if mqtt.session_expiry_s < _REPAIR_S:
        return warn(
            f"{told}: after {mqtt.session_expiry_s} s away (mqtt.session_expiry_s), mosquitto throws away its share",
            "make it longer than a repair takes, such as 604800; with brokers that hand the share on it is well so",
        )
    if mqtt.reconnect_max_s > _SOON_S:
        return warn(
            f"{told}: it may try again only after {mqtt.reconnect_max_s:g} s (mqtt.reconnect_max_s), and until a node"
            " is back at a broker that was away, requests go to nobody",
            "set mqtt.reconnect_max_s = 2",
        )
    return ok(told)
