"""The server's own commands: serve, config, doctor."""

from __future__ import annotations

import argparse
import os
import sys

from tinyfaas.cli.answers import print_json
from tinyfaas.errors import ConfigError
from tinyfaas.exits import Exit


def run(args: argparse.Namespace) -> int:
    """Carry out one of them."""
    return {"serve": serve, "config": config, "doctor": doctor}[args.command](args)


def serve(args: argparse.Namespace) -> int:
    """Run the server until it is told to stop."""
    from tinyfaas import daemon

    return daemon.serve(args.config)


def config(args: argparse.Namespace) -> int:
    """Print the server's settings, secrets masked, and where each comes from."""
    from tinyfaas import config as configuration
    from tinyfaas.cli import show
    from tinyfaas.reload import merged

    try:
        settings = configuration.load(args.config, os.environ)
        before = configuration.load(args.against, os.environ) if args.against else None
    except OSError as error:  # a folder that hides whether the file is there
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    if before is not None:
        changed = merged(before, settings)
        found = {"reload": changed.applied, "restart": changed.restart}
        if args.json:
            print_json(found)
        else:
            print("\n".join(f"{key}: {' '.join(names) or 'nothing'}" for key, names in found.items()))
        return Exit.OK
    effective = list(configuration.effective(settings))
    if args.json:
        print_json({key: {"value": value, "from": origin} for key, value, origin in effective})
    else:
        print(show.settings(effective))
    return Exit.OK


def doctor(args: argparse.Namespace) -> int:
    """Check this device, and print each finding as soon as it is there."""
    from tinyfaas.cli.doctor import report, service
    from tinyfaas.cli.doctor.checks import CHECKS
    from tinyfaas.cli.doctor.finding import State
    from tinyfaas.cli.terminal import takes_colour

    device = service.here(args, os.environ)
    described, found = device.described(), {}
    width = max(len(check.name) for check in CHECKS)
    coloured = takes_colour(sys.stdout)
    if not args.json:
        print(f"{report.heading(described)}\n")
    for check in CHECKS:
        found[check.name] = check.make(device)
        if not args.json:
            print(report.lines(check.name, found[check.name], width, coloured=coloured), flush=True)
    if args.json:
        print_json(report.document(described, found))
    else:
        print(f"\n{report.summary(found.values())}")
    return Exit.FAILED if report.worst(found.values()) is State.FAIL else Exit.OK
