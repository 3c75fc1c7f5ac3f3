"""Where the tests get brokers, servers and clients from, and who clears away after them."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness import fence
from tests.harness.account import unprivileged
from tests.harness.broker import Broker
from tests.harness.client import Client
from tests.harness.installation import installation_for
from tests.harness.rabbit import Rabbit
from tests.harness.server import Server

_MOST_PIDS = 512
_MOST_MEMORY_BYTES = 2 * 1024**3


class Grounds:
    """What all servers of a run share: a folder that their account reaches, the installation, the outer bound."""

    def __init__(self) -> None:
        self.account = unprivileged()
        self.folder = self._folder()
        self.fence = fence.build(_MOST_PIDS, _MOST_MEMORY_BYTES)
        self.installation = installation_for(self.account, self.new_folder("installation"))
        self.wheel_house = self.new_folder("wheel-house")
        self._number = 0

    def new_wheels(self) -> Path:
        """An empty folder that a build sees."""
        folder = Path(tempfile.mkdtemp(dir=self.wheel_house))
        folder.chmod(0o755)
        return self.account.own(folder)

    def new_folder(self, name: str) -> Path:
        """An empty folder that the servers' account owns."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        folder.chmod(0o755)
        return self.account.own(folder)

    def clear(self) -> None:
        """Remove everything."""
        self.fence.take_down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _folder(self) -> Path:
        places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
        place = next(place for place in places if self.account.reaches(place))
        folder = Path(tempfile.mkdtemp(prefix="tinyfaas-tests-", dir=place))
        folder.chmod(0o755)
        return folder


class Bench:
    """Makes what a test asks for; `clear` ends it in the order that is kind to it."""

    def __init__(self, grounds: Grounds) -> None:
        self.grounds = grounds
        self.servers: list[Server] = []
        self._kept = contextlib.ExitStack()

    def broker(self, *, talkative: bool = False, more: str = "", password: str = "") -> Broker:
        """A running broker; `more` is further configuration, with a `password` nobody else may come."""
        broker = Broker(self.grounds.new_folder("broker"), talkative=talkative, more=more, password=password)
        self._kept.callback(broker.stop)
        return broker.start()

    def rabbit(self) -> Rabbit:
        """A running broker that is not mosquitto."""
        broker = Rabbit(self.grounds.new_folder("rabbit"), self.grounds.account)
        self._kept.callback(broker.close)
        return broker.start()

    def idle_broker(self) -> Broker:
        """A broker that is not started: only its port is wanted."""
        return Broker(self.grounds.new_folder("broker"))

    def server(self, broker: Broker, settings: Mapping[str, Any] | None = None, home: Path | None = None) -> Server:
        """A server that is not started yet, with a new home or one that was lived in."""
        grounds = self.grounds
        home = home or grounds.new_folder("home")
        settings = {"uploads_wheel_house": grounds.wheel_house, **(settings or {})}
        server = Server(grounds.installation, grounds.account, grounds.fence, home, broker, settings)
        self.servers.append(server)
        self._kept.callback(server.close)
        return server

    def client(
        self,
        broker: Broker,
        *,
        v5: bool = True,
        topics: tuple[str, ...] = ("faas/#", "reply/#"),
        lasting: bool = False,
    ) -> Client:
        """A connected client."""
        return self._kept.enter_context(
            Client(broker.port, v5=v5, topics=topics, lasting=lasting, account=broker.login)
        )

    def clear(self) -> None:
        """Clients go first, then servers, then brokers: the reverse of how they were made."""
        self._kept.close()
