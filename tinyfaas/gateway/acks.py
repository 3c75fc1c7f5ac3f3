"""In which order requests are acknowledged: as their answers are ready, or as they were received."""

from __future__ import annotations

from collections import OrderedDict


class Acknowledgements:
    """The packet ids of one connection that await an acknowledgement.

    MQTT asks for the order of receipt; one slow function would then hold up all. mosquitto takes any order.
    """

    def __init__(self, *, in_order_of_receipt: bool) -> None:
        self._in_order = in_order_of_receipt
        self._answered: OrderedDict[int, bool] = OrderedDict()

    def begin_connection(self) -> None:
        """A new connection: the broker delivers again what was not acknowledged."""
        self._answered.clear()

    def received(self, mid: int) -> None:
        """A request with this packet id has come."""
        if self._in_order:
            self._answered[mid] = False

    def answered(self, mid: int) -> list[int]:
        """Its answer is out: the packet ids to acknowledge now, in their order."""
        if not self._in_order:
            return [mid]
        self._answered[mid] = True
        due = []
        for waiting, is_answered in self._answered.items():
            if not is_answered:
                break
            due.append(waiting)
        for each in due:
            del self._answered[each]
        return due
