"""Things to do later, by name: setting a name again moves it. For one thread."""

from __future__ import annotations

from collections.abc import Callable

# Waiting functions refuse centuries, and someone may set a deadline there.
_LONGEST_S = 3600.0


class Timers:
    """`clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._set: dict[str, tuple[float, Callable[[], object]]] = {}

    def set(self, name: str, delay_s: float, action: Callable[[], object]) -> None:
        """Do `action` after `delay_s`; at once, where that is not above zero."""
        self._set[name] = (self._clock() + delay_s, action)

    def cancel(self, name: str) -> None:
        """Do it not."""
        self._set.pop(name, None)

    def next_s(self) -> float:
        """Seconds until the next one is due, or until it is worth looking again."""
        due = min((due for due, _ in self._set.values()), default=float("inf"))
        return min(max(0.0, due - self._clock()), _LONGEST_S)

    def run_due(self) -> None:
        """Do what is due, the oldest first. What an action sets anew waits for the next call."""
        now = self._clock()
        for name, (due, action) in sorted(self._set.items(), key=lambda item: item[1][0]):
            if due <= now and self._set.get(name) == (due, action):
                del self._set[name]
                action()
