"""Whose turn it is: each client gets the same share of the work, and of its share each of its requests.

It is start-time fair queueing in two levels. A part of a request stands behind the work that its request has had, and
a client behind the work that it has had since it waits. So a large request takes its turns between those of small ones,
and neither keeps the other from being answered.

Source: P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996.
"""

import dataclasses
from collections.abc import Iterable, Sequence


@dataclasses.dataclass
class _Client:
    """A client that waits.

    Attributes:
        served: the work that it has had, from the clock of all clients when it came.
        clock: where the requests of this client stand.
        waiting: its turns that wait.
    """

    served: float
    clock: float = 0.0
    waiting: int = 0


@dataclasses.dataclass
class Turn:
    """A part of a request, with its client, the work of its request before it, and its own work."""

    name: str
    client: _Client
    begin: float
    work: float

    @property
    def order(self) -> tuple[float, float]:
        """The lowest is next."""
        return self.client.served, self.begin


class Turns:
    """The clients that wait."""

    def __init__(self) -> None:
        self._clients: dict[str, _Client] = {}
        self._clock = 0.0

    def enter(self, name: str, works: Sequence[float]) -> list[Turn]:
        """Return the turns of a client's new request, one for each of its parts."""
        client = self._clients.setdefault(name, _Client(self._clock))
        client.waiting += len(works)
        before = [sum(works[:part]) for part in range(len(works))]
        return [Turn(name, client, client.clock + begin, work) for begin, work in zip(before, works, strict=True)]

    def start(self, turns: Iterable[Turn]) -> None:
        """Count the work of turns that begin now."""
        for turn in turns:
            self._clock = max(self._clock, turn.client.served)
            turn.client.served += turn.work
            turn.client.clock = max(turn.client.clock, turn.begin)
            self.leave(turn)

    def leave(self, turn: Turn) -> None:
        """Forget a turn that does not wait any more, and its client after the last."""
        turn.client.waiting -= 1
        if not turn.client.waiting:
            del self._clients[turn.name]
