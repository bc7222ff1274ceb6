"""The registry's end of MQTT: one thread takes in what devices say and publishes what they shall run.

Rules:
- everything goes through one inbox, read by one thread: messages, confirmations and orders to publish. paho's network
  thread only fills it, so no lock of ours is ever held inside paho's callbacks (paho calls `on_publish` with its own
  lock held, and another thread that publishes then waits for both);
- a message is acknowledged after the commit that holds it, and only on the connection it came on: packet ids of an
  earlier connection may mean another message now;
- a message nobody can read is logged, counted and acknowledged: it must not come back for ever;
- the database is the truth: each time a broker is reached, all desired states are published again.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from edgewright.contracts.errors import EdgewrightError, TransportError
from edgewright.contracts.ids import DeviceId, RolloutId, TenantId
from edgewright.contracts.topics import Channel, Topic, ingest_subscriptions
from edgewright.registry import ingest, rollouts
from edgewright.registry.database import Database
from edgewright.registry.tables import DesiredRow, DeviceRow, ExecutionRow

_log = logging.getLogger(__name__)

_CLIENT_ID = "edgewright-registry"
_SESSION_EXPIRY_S = 24 * 3600
_KEEPALIVE_S = 20
_CONNECT_TIMEOUT_S = 10.0
_BATCH = 256
_RETRY_S = 1.0
# MQTT 5 gives shared subscriptions nothing that was retained (mosquitto 2.0.11 does, others do not), so presence is
# asked for once more, unshared; hearing it twice changes nothing.
_PRESENCE = str(Topic(TenantId("+"), DeviceId("+"), Channel.PRESENCE))


@dataclass(frozen=True)
class _Received:
    connection: int
    message: MQTTMessage


@dataclass(frozen=True)
class _Confirmed:
    mid: int


@dataclass(frozen=True)
class _Publish:
    """Publish the desired states of this rollout's devices; None: of all devices."""

    rollout: RolloutId | None


@dataclass(frozen=True)
class _BrokerStarts:
    """A new broker: nobody is connected until he says so again."""


@dataclass(frozen=True)
class _Stop:
    """Wakes the worker up, to see that it shall stop."""


_Item = _Received | _Confirmed | _Publish | _BrokerStarts | _Stop


class MqttWorker:
    """Ingest and publishing. `start` and `stop` once each.

    Attributes:
        counts: what became of the messages so far: an ingest.Outcome, ``malformed`` or ``failed``.
    """

    def __init__(self, database: Database, host: str, port: int) -> None:
        self.counts: Counter[str] = Counter()
        self._database = database
        self._address = (host, port)
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._connection = 0  # counts connections; written by paho's thread
        self._stopping = threading.Event()
        self._connected = threading.Event()
        self._published: dict[int, tuple[DeviceId, int]] = {}  # the worker thread's own
        self._thread = threading.Thread(target=self._work, name="mqtt-worker", daemon=True)
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=_CLIENT_ID, protocol=MQTTv5, manual_ack=True)
        self._client.max_inflight_messages_set(1000)
        self._client.reconnect_delay_set(1, 10)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish

    def start(self) -> None:
        """Connect, and again whenever the connection is lost.

        Raises:
            TransportError: `broker-unreachable`: no connection in time.
        """
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _SESSION_EXPIRY_S
        host, port = self._address
        # The broker keeps our session, so that what was not acknowledged comes again after an interruption.
        self._client.connect_async(host, port, keepalive=_KEEPALIVE_S, clean_start=False, properties=properties)
        self._thread.start()
        self._client.loop_start()
        if not self._connected.wait(_CONNECT_TIMEOUT_S):
            host, port = self._address
            raise TransportError(
                "broker-unreachable",
                f"the MQTT broker at {host}:{port} does not let the registry in",
                next_step="see the broker's log; is another program listening on that port?",
            )

    def stop(self) -> None:
        """Finish what is in work, and disconnect. The broker keeps what was not acknowledged."""
        self._stopping.set()
        self._inbox.put(_Stop())
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()

    def publish_desired(self, rollout: RolloutId) -> None:
        """Publish what the devices of `rollout` shall run. Call it after the commit; it returns at once."""
        self._inbox.put(_Publish(rollout))

    def broker_starts(self) -> None:
        """A broker is about to be started: whoever was connected is not any more. Returns at once."""
        self._inbox.put(_BrokerStarts())

    @property
    def ready(self) -> bool:
        """Whether the broker is connected now, and messages are being taken in."""
        return self._client.is_connected() and self._thread.is_alive()

    # paho's thread: fill the inbox, nothing else.

    def _on_connect(self, client: Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            _log.error("the broker refused the registry: %s", reason)
            return
        self._connection += 1
        self._connected.set()
        options = SubscribeOptions(qos=1)
        client.subscribe([(topic, options) for topic in (*ingest_subscriptions(), _PRESENCE)])
        self._inbox.put(_Publish(None))

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._inbox.put(_Received(self._connection, message))

    def _on_publish(self, _client: Client, _userdata: Any, mid: int, _reason: Any, _properties: Any) -> None:
        self._inbox.put(_Confirmed(mid))

    # The worker's thread.

    def _work(self) -> None:
        while not self._stopping.is_set():
            batch = self._next_batch()
            while not self._commit(batch):
                if self._stopping.wait(_RETRY_S):
                    return  # nothing was acknowledged, so the broker keeps it
            for item in batch:
                match item:
                    case _Received(connection, message) if connection == self._connection:
                        self._client.ack(message.mid, message.qos)
                    case _Confirmed(mid):
                        self._published.pop(mid, None)
                    case _Publish(rollout):
                        self._publish(rollout)

    def _next_batch(self) -> list[_Item]:
        """At least one item, and with it what else is waiting: one commit is for all of them."""
        batch = [self._inbox.get()]
        while len(batch) < _BATCH:
            try:
                batch.append(self._inbox.get_nowait())
            except queue.Empty:
                break
        return batch

    def _commit(self, batch: Iterable[_Item]) -> bool:
        """Write a batch down, in order. False: the database could not be written, and nothing has been."""
        now = time.time()
        counts: Counter[str] = Counter()
        try:
            with self._database.write() as session:
                for item in batch:
                    match item:
                        case _Received(_, message):
                            counts[self._receive(session, message, now)] += 1
                        case _Confirmed(mid) if mid in self._published:
                            rollouts.mark_offered(session, *self._published[mid], now)
                        case _BrokerStarts():
                            ingest.all_offline(session)
        except DBAPIError:
            _log.exception("what devices said could not be written down; trying again")
            return False
        self.counts += counts
        return True

    def _receive(self, session: Session, message: MQTTMessage, now: float) -> str:
        try:
            with session.begin_nested():
                payload = bytes(message.payload)
                return ingest.receive(session, message.topic, payload, retained=message.retain, now=now)
        except EdgewrightError as error:
            _log.warning("a message on %s was dropped: %s", message.topic[:200], " ".join(str(error).split()))
            return "malformed"
        except OperationalError:
            raise  # the database's trouble, not the message's
        except Exception:  # noqa: BLE001 - the edge of the worker: one message must not stop the others
            _log.exception("a message on %s was dropped: a defect in edgewright", message.topic[:200])
            return "failed"

    def _publish(self, rollout: RolloutId | None) -> None:
        if not self._client.is_connected():
            return  # everything is published when the connection is there
        query = select(DeviceRow.tenant, DesiredRow).join(DeviceRow, DeviceRow.id == DesiredRow.device)
        if rollout is not None:
            theirs = select(ExecutionRow.device).where(ExecutionRow.rollout == rollout)
            query = query.where(DesiredRow.device.in_(theirs))
        try:
            with self._database.read() as session:
                rows = [(tenant, row.device, row.gen, row.document) for tenant, row in session.execute(query)]
        except DBAPIError:
            _log.exception("what devices shall run could not be read; trying again")
            self._inbox.put(_Publish(rollout))
            self._stopping.wait(_RETRY_S)
            return
        for tenant, device, gen, document in rows:
            topic = Topic(TenantId(tenant), DeviceId(device), Channel.DESIRED)
            sent = self._client.publish(str(topic), document, qos=1, retain=True)
            self._published[sent.mid] = (DeviceId(device), gen)
