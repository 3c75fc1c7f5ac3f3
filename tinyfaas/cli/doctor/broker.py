"""The broker: whether it lets the server in, and what it would keep for it."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import socket

from tinyfaas.cli.doctor import mosquitto
from tinyfaas.cli.doctor.device import AS_ROOT, Device
from tinyfaas.cli.doctor.finding import Finding, fail, ok, skip, warn
from tinyfaas.errors import ConfigError

BROKER_S = 4.5
_KNOWN = ("ReceiveMaximum", "MaximumPacketSize", "RetainAvailable")  # of all it tells (MQTT 5), what matters here
_AUTOSAVE_S = 300
_OURS = "/etc/mosquitto/conf.d/tinyfaas.conf"


def reachable(device: Device) -> Finding:
    """The broker accepts the server's host, port, account and TLS files, within 5 s."""
    from tinyfaas.cli.client import greet
    from tinyfaas.cli.failures import Refused, Unreachable

    settings, mqtt = device.settings, device.settings.mqtt
    where = f"{mqtt.host}:{mqtt.port}"
    if settings.problem:
        hint = AS_ROOT if settings.is_hidden else "see the check `config`"
        return skip("without the server's settings it can't be tried", hint)
    hidden = [file for file in (mqtt.tls_ca_file, mqtt.tls_cert_file, mqtt.tls_key_file) if file and _is_hidden(file)]
    if hidden:
        return skip(f"this account may not read {hidden[0]}", AS_ROOT)
    try:
        said = greet(dataclasses.replace(mqtt, connect_timeout_s=BROKER_S), BROKER_S)
    except ConfigError as error:
        return fail(str(error), "name files that are there: mqtt.tls_ca_file, mqtt.tls_cert_file, mqtt.tls_key_file")
    except Refused as error:
        return fail(str(error), "set mqtt.username and mqtt.password_file; at the broker: mosquitto_passwd, acl_file")
    except Unreachable as error:
        if is_local(mqtt.host):
            return fail(str(error), "sudo apt install mosquitto && sudo systemctl enable --now mosquitto")
        return fail(str(error), f"see whether {mqtt.host} is on and reached: ping {mqtt.host}; mqtt.host, mqtt.port")
    told = f"{where} lets {mqtt.username or 'us'} in, MQTT {mqtt.protocol}"
    told += "".join(f", {name} {said[name]}" for name in _KNOWN if name in said)
    largest = settings.config.uploads.max_bytes
    if int(said.get("MaximumPacketSize", largest)) < largest:
        return warn(told, f"uploads may have {largest} bytes (uploads.max_bytes): raise max_packet_size at the broker")
    if str(said.get("RetainAvailable", 1)) == "0":
        return warn(told, "presence is a retained message: set retain_available true at the broker")
    return ok(told)


def limits(device: Device) -> Finding:
    """What the broker's own configuration says of queues and persistence; told for a mosquitto on this device."""
    mqtt = device.settings.mqtt
    if device.settings.problem:
        return skip("without the server's settings its broker is not known")
    if not is_local(mqtt.host):
        return skip(f"the broker is on another machine: look into its configuration on {mqtt.host}")
    found = mosquitto.configuration(device, mqtt.port)
    if isinstance(found, str):
        return skip(found, AS_ROOT if "not readable" in found else "")
    told = ", ".join(f"{name} {found.value(name)}" for name in mosquitto.DEFAULTS)
    wanted = _wanted(found, device.settings.config.queue.max_requests)
    if not wanted:
        return ok(f"{found.file}: {told}")
    return warn(f"{found.file}: {told}", _fix(found, wanted))


def is_local(host: str) -> bool:
    """Whether a host's name or address is this device's own."""
    name = socket.gethostname()
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "ip6-localhost", name.lower(), f"{name}.local".lower())


def _wanted(found: mosquitto.Configuration, requests: int) -> dict[str, str]:
    """What should be set otherwise. 0 is no limit, and no save but at the broker's end."""
    wanted = {}
    if found.value("persistence") != "true":
        wanted["persistence"] = "true"
    if not 0 < found.number("autosave_interval") <= _AUTOSAVE_S:
        wanted["autosave_interval"] = str(_AUTOSAVE_S)
    if 0 < found.number("max_queued_messages") < requests:
        wanted["max_queued_messages"] = "100000"
    if 0 < found.number("max_inflight_messages") < requests:
        wanted["max_inflight_messages"] = "0"
    if found.value("set_tcp_nodelay") != "true":
        wanted["set_tcp_nodelay"] = "true"
    return wanted


def _fix(found: mosquitto.Configuration, wanted: dict[str, str]) -> str:
    """New lines go into a file of ours; what is set already has to be changed where it stands."""
    lines = []
    standing = [f"{name} {value}" for name, value in wanted.items() if name in found.values or not found.is_packaged]
    new = [f"{name} {value}" for name, value in wanted.items() if f"{name} {value}" not in standing]
    if standing:
        lines.append(f"in {found.file} or what it includes, set: {'; '.join(standing)}; then restart the broker")
    if new:
        text = "\\n".join(new)
        lines.append(f"printf '{text}\\n' | sudo tee -a {_OURS} && sudo systemctl restart mosquitto")
    return "\n".join(lines)


def _is_hidden(file: str) -> bool:
    return os.path.exists(file) and not os.access(file, os.R_OK)  # noqa: PTH110  (no error for a hidden folder)
