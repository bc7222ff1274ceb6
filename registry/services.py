"""What the web API works with, handed in by whoever composes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from edgewright.contracts.api import Endpoints
from edgewright.contracts.ids import RolloutId
from edgewright.registry.database import Database
from edgewright.registry.store import ObjectStore


class Messages(Protocol):
    """The registry's end of MQTT, as the web API sees it."""

    @property
    def ready(self) -> bool:
        """Whether messages are coming in and going out."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """What became of the messages so far."""
        ...

    def publish_desired(self, rollout: RolloutId) -> None:
        """Publish what the devices of `rollout` shall run."""
        ...


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts. `clock` gives seconds since 1970."""

    database: Database
    store: ObjectStore
    messages: Messages
    endpoints: Endpoints
    clock: Callable[[], float]
