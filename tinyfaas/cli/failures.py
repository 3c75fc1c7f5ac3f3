"""How a command can end early. The message is the one line on stderr, `status` the exit status."""

from __future__ import annotations

from typing import ClassVar

from tinyfaas.exits import Exit


class Failed(Exception):
    """The command can't do what it should."""

    status: ClassVar[Exit] = Exit.FAILED
    hint: ClassVar[str] = ""
    """What to do about it, where that is always the same."""


class Unusable(Failed):
    """Something that the command line names can't be used: a folder, a file in it, an argument."""

    status = Exit.USAGE


class Unreachable(Failed):
    """There is no broker, it refuses us, or nobody there would get the request."""

    status = Exit.UNREACHABLE


class NoBroker(Unreachable):
    """Nothing speaks MQTT there."""

    hint = "; --host and --port name another broker"


class Refused(Unreachable):
    """The broker is there, and does not let us in."""


class Absent(Unreachable):
    """The broker is there, and nobody would get the request."""

    hint = "; is the server running? `tinyfaas doctor` on its device tells more"


class NoAnswer(Failed):
    """The broker has the request, and no answer came in time."""

    status = Exit.TIMEOUT
