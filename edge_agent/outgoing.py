"""Bring the outbox to the broker, in order.

Rules: a message is under way once at a time; it is done only when the broker has taken it for somebody; when there was
nobody, all that follow wait until `again`, or the last words would arrive before the first; a new connection begins
anew with everything that is not done.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgewright.contracts.ids import ExecutionId
from edgewright.contracts.topics import Channel
from edgewright.edge_agent.state import OutMessage
from edgewright.edge_agent.transport import Delivered, Link


class Outgoing:
    """What is under way on one link. For one thread."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._session: str | None = None
        self._waiting = False  # the broker had nobody to give a message to
        self._under_way: dict[int, int] = {}  # the connection's number of a message -> its id in the outbox
        self._said: set[int] = set()  # numbers of what was said beside the outbox
        self.unheard = False  # some of that had nobody to hear it

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._session is not None

    def connected(self, session: str) -> None:
        """A connection has begun; nothing is under way on it."""
        self._session = session
        self._waiting = False
        self._under_way = {}
        self._said = set()
        self.unheard = False

    def disconnected(self, session: str) -> None:
        """That connection has ended."""
        if session == self._session:
            self._session = None

    def send(self, outbox: Iterable[OutMessage]) -> None:
        """Send what is not under way, unless it waits."""
        if not self.up or self._waiting:
            return
        under_way = set(self._under_way.values())
        for message in outbox:
            if message.id not in under_way:
                number = self._link.publish(message.channel, message.execution, message.payload.encode())
                if number is None:
                    return  # the connection has just ended; the next one begins anew
                self._under_way[number] = message.id

    def again(self, outbox: Iterable[OutMessage]) -> None:
        """Send what is not under way: there may be somebody now."""
        self._waiting = False
        self.send(outbox)

    def say(self, channel: Channel, execution: ExecutionId | None, payload: bytes) -> None:
        """Send something that is not kept: it is made anew for the next connection, or when it was `unheard`."""
        number = self._link.publish(channel, execution, payload) if self.up else None
        if number is not None:
            self._said.add(number)

    def delivered(self, answer: Delivered) -> int | None:
        """The id of the message that is done; None: not one of ours, or to be sent again."""
        if answer.session != self._session:
            return None
        if answer.number in self._said:
            self._said.remove(answer.number)
            self.unheard = self.unheard or not answer.taken
        done = self._under_way.pop(answer.number, None)
        if done is not None and not answer.taken:
            self._waiting = True
            return None
        return done
