"""MQTT topics: the only place where one is put together or taken apart.

ew/v1/{tenant}/d/{device}/desired     retained, QoS 1   cloud → device
ew/v1/{tenant}/d/{device}/reported    QoS 1             device → cloud
ew/v1/{tenant}/d/{device}/presence    retained + will   device → cloud
ew/v1/{tenant}/d/{device}/exec/{id}   QoS 1             device → cloud
ew/v1/{tenant}/d/{device}/bench/{id}  QoS 1             device → cloud
$share/ingest/ew/v1/+/d/+/…           the cloud side scales out by shared subscriptions
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edgewright.contracts.errors import UserError
from edgewright.contracts.ids import (
    DeviceId,
    ExecutionId,
    TenantId,
    parse_device_id,
    parse_execution_id,
    parse_tenant_id,
)

_ROOT = "ew/v1"


class Channel(StrEnum):
    """What is said on a topic."""

    DESIRED = "desired"
    REPORTED = "reported"
    PRESENCE = "presence"
    EXECUTION = "exec"
    BENCHMARK = "bench"


_PER_EXECUTION = frozenset({Channel.EXECUTION, Channel.BENCHMARK})
FROM_DEVICES = tuple(channel for channel in Channel if channel is not Channel.DESIRED)


@dataclass(frozen=True)
class Topic:
    """One topic, taken apart. `execution` is there on the channels that carry one, and only there."""

    tenant: TenantId
    device: DeviceId
    channel: Channel
    execution: ExecutionId | None = None

    def __post_init__(self) -> None:
        if (self.execution is not None) != (self.channel in _PER_EXECUTION):
            raise UserError(
                "topic-malformed", f"channel {self.channel} and execution {self.execution} do not go together"
            )

    def __str__(self) -> str:
        tail = f"/{self.execution}" if self.execution is not None else ""
        return f"{_ROOT}/{self.tenant}/d/{self.device}/{self.channel}{tail}"


def parse_topic(text: str) -> Topic:
    """Raises UserError `topic-malformed`, or the malformed part's own code."""
    parts = text.split("/")
    if len(parts) not in (6, 7) or "/".join(parts[:2]) != _ROOT or parts[3] != "d" or parts[5] not in set(Channel):
        raise UserError("topic-malformed", "not an edgewright topic", found=repr(text[:200]))
    execution = parse_execution_id(parts[6]) if len(parts) == 7 else None
    return Topic(parse_tenant_id(parts[2]), parse_device_id(parts[4]), Channel(parts[5]), execution)


def ingest_subscriptions(group: str = "ingest") -> tuple[str, ...]:
    """What a cloud worker subscribes to; workers of one `group` share the messages."""
    tails = (f"{channel}/+" if channel in _PER_EXECUTION else str(channel) for channel in FROM_DEVICES)
    return tuple(f"$share/{group}/{_ROOT}/+/d/+/{tail}" for tail in tails)
