"""Which broker a command speaks to, and how."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from tinyfaas import config
from tinyfaas.config import Mqtt

_OURS = "TINYFAAS_MQTT_"
# A file with no settings: the server's own may be unreadable for who runs a command, or on another machine.
_NO_FILE = Path(os.devnull)


def settings(args: argparse.Namespace, environ: Mapping[str, str]) -> Mqtt:
    """The `mqtt` section from `TINYFAAS_MQTT_*`, overridden by `--host` and `--port`; raises `ConfigError`.

    No other setting matters, so none can keep a command from working. One attempt to connect takes no longer than
    `--timeout` allows.
    """
    ours = {name: text for name, text in environ.items() if name.startswith(_OURS)}
    mqtt = config.load(_NO_FILE, ours).mqtt
    return dataclasses.replace(
        mqtt,
        host=args.host or mqtt.host,
        port=args.port or mqtt.port,
        connect_timeout_s=min(mqtt.connect_timeout_s, args.timeout),
    )
