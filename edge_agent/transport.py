"""The line to the broker: MQTT 5 by paho, one client object a connection.

Rules: what must arrive stays in the agent's outbox until the broker has acknowledged it, so paho's own queue is thrown
away with each connection; the broker keeps the device's session (no clean start) and says by a will that it has gone;
a broker that cannot be reached is tried again for ever, with full jitter. paho's thread only fills the inbox.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edgewright.contracts.api import MqttEndpoint
from edgewright.contracts.errors import EdgewrightError, TransportError
from edgewright.contracts.ids import DeviceId, ExecutionId, TenantId
from edgewright.contracts.messages import Presence
from edgewright.contracts.topics import Channel, Topic
from edgewright.contracts.wire import encode
from edgewright.edge_agent import log
from edgewright.edge_agent.backoff import Backoff

KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 5.0
SESSION_EXPIRY_S = 7 * 24 * 3600
_DISCONNECT_WITH_WILL = 0x04
# A shorter connection counts as a failed try: two devices of one name throw each other out without end.
_LASTED_S = 30.0


@dataclass(frozen=True)
class LinkUp:
    """Connected; `session` names the connection."""

    session: str


@dataclass(frozen=True)
class LinkDown:
    """The connection is gone."""

    session: str


@dataclass(frozen=True)
class Heard:
    """What came on the device's desired topic."""

    payload: bytes


@dataclass(frozen=True)
class Delivered:
    """The broker's answer for the message `number` of connection `session`; `taken`: somebody will get it."""

    session: str
    number: int
    taken: bool


Arrival = LinkUp | LinkDown | Heard | Delivered


class Link(Protocol):
    """What the agent needs of a line to the broker."""

    def start(self, put: Callable[[Arrival], object]) -> None:
        """Connect, and again whenever the connection is lost; `put` takes what arrives, from any thread."""
        ...

    def publish(self, channel: Channel, execution: ExecutionId | None, payload: bytes) -> int | None:
        """Send with QoS 1. Its number, unique in the connection; None when there is no connection."""
        ...

    def stop(self) -> None:
        """Say goodbye and disconnect, within a second."""
        ...


class _Connection:
    """One connection's callbacks, on paho's thread."""

    def __init__(self, session: str, put: Callable[[Arrival], object]) -> None:
        self.session = session
        self.ended = threading.Event()
        self.answer = "the connection was closed"
        self._put = put

    def on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._put(Heard(bytes(message.payload)))

    def on_publish(self, _client: Client, _userdata: Any, number: int, reason: ReasonCode, _properties: Any) -> None:
        # "No matching subscribers" acknowledges the loss of a message.
        self._put(Delivered(self.session, number, taken=reason.value == 0))

    def on_disconnect(self, *_arguments: Any) -> None:
        self.ended.set()


class MqttLink:
    """A Link to the broker at the address that `address` finds out; it may raise EdgewrightError and is asked again."""

    def __init__(
        self, tenant: TenantId, device: DeviceId, address: Callable[[], MqttEndpoint], backoff: Backoff | None = None
    ) -> None:
        self._tenant = tenant
        self._device = device
        self._address = address
        self._backoff = backoff or Backoff()
        self._put: Callable[[Arrival], object] = lambda _arrival: None
        self._client: Client | None = None  # only while connected
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self, put: Callable[[Arrival], object]) -> None:
        """See Link."""
        self._put = put
        self._thread.start()

    def publish(self, channel: Channel, execution: ExecutionId | None, payload: bytes) -> int | None:
        """See Link."""
        client = self._client
        if client is None:
            return None
        info = client.publish(self._topic(channel, execution), payload, qos=1)
        return info.mid if info.rc is MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def stop(self) -> None:
        """See Link."""
        self._stopping.set()
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _topic(self, channel: Channel, execution: ExecutionId | None = None) -> str:
        return str(Topic(self._tenant, self._device, channel, execution))

    def _run(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            delay_s = self._backoff.delay_s(tries)
            tries += 1
            try:
                address = self._address()
                self._one_connection(address)
                if time.monotonic() - began > _LASTED_S:
                    tries = 0
                if not self._stopping.is_set():
                    log.warning("broker-lost", host=address.host, port=address.port, retry_in_s=round(delay_s, 2))
            except EdgewrightError as error:
                log.failure("broker-unreachable", error, retry_in_s=round(delay_s, 2))
            self._stopping.wait(delay_s)

    def _one_connection(self, address: MqttEndpoint) -> None:
        """Connect, and stay until the connection ends or the link is stopped.

        Raises:
            TransportError: `broker-unreachable`; `broker-refused` when it ended before the broker accepted it.
        """
        connection = _Connection(uuid.uuid4().hex, self._put)
        self._ended = connection.ended
        client = self._new_client(connection.session)
        client.on_message, client.on_publish = connection.on_message, connection.on_publish
        client.on_disconnect = connection.on_disconnect

        def on_connect(client: Client, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
            connection.answer = str(reason)
            if not reason.is_failure:
                client.subscribe(self._topic(Channel.DESIRED), qos=1)
                client.publish(
                    self._topic(Channel.PRESENCE), _presence(connection.session, online=True), 1, retain=True
                )
                self._client = client
                self._put(LinkUp(connection.session))

        client.on_connect = on_connect
        self._connect(client, address)
        client.loop_start()
        if not self._stopping.is_set():
            connection.ended.wait()
        if client.is_connected():
            client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=_DISCONNECT_WITH_WILL))
        client.loop_stop()
        accepted, self._client = self._client is not None, None
        self._put(LinkDown(connection.session))
        if not accepted and not self._stopping.is_set():
            raise TransportError(
                "broker-refused",
                f"the broker at {address.host}:{address.port} did not accept {self._device}",
                found=connection.answer,
                next_step="check the address, and that the broker speaks MQTT 5 and knows this device",
            )

    def _new_client(self, session: str) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"ew-{self._tenant}-{self._device}",
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.will_set(self._topic(Channel.PRESENCE), _presence(session, online=False), qos=1, retain=True)
        return client

    def _connect(self, client: Client, address: MqttEndpoint) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        try:
            client.connect(address.host, address.port, KEEPALIVE_S, clean_start=False, properties=properties)
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
            raise TransportError(
                "broker-unreachable", f"no broker answers at {address.host}:{address.port}", found=str(error)
            ) from None


def _presence(session: str, *, online: bool) -> bytes:
    return encode(Presence(session=session, online=online))
