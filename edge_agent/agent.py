"""The event loop: one thread that owns the state. Everything else puts what it has to say into the inbox.

Rules: a change is saved before anything of it is said or done, and one that cannot be saved is tried again, not
half made; nothing here waits for the network or for an artifact; what a stranger sends that cannot be read is logged
and changes nothing.
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from edgewright import __version__
from edgewright.contracts.errors import DeviceError, EdgewrightError, NotFound, UserError
from edgewright.contracts.hardware import Fingerprint
from edgewright.contracts.ids import DeviceId
from edgewright.contracts.messages import Desired, Reported
from edgewright.contracts.topics import Channel
from edgewright.contracts.wire import decode, encode
from edgewright.edge_agent import desired as device
from edgewright.edge_agent import log
from edgewright.edge_agent.backoff import Backoff
from edgewright.edge_agent.effects import Outside
from edgewright.edge_agent.events import DeadlinePassed, Event
from edgewright.edge_agent.machine import Effect
from edgewright.edge_agent.outgoing import Outgoing
from edgewright.edge_agent.recall import recall
from edgewright.edge_agent.report import active_models
from edgewright.edge_agent.state import SWITCHED, AgentState
from edgewright.edge_agent.storage import save_state
from edgewright.edge_agent.table import Do
from edgewright.edge_agent.timers import Timers
from edgewright.edge_agent.transport import Arrival, Delivered, Heard, Link, LinkDown, LinkUp
from edgewright.edge_agent.web import Web
from edgewright.edge_agent.worker import Abort, Worker


@dataclass(frozen=True)
class Happened:
    """An event for one model."""

    model: str
    event: Event


@dataclass(frozen=True)
class Pointed:
    """A stable path was switched: what the device runs has changed."""


@dataclass(frozen=True)
class Stop:
    """Enough."""


@dataclass(frozen=True)
class Reconciled:
    """The registry was asked what is desired. `reached`: it has answered."""

    desired: Desired | None
    reached: bool


Item = Arrival | Happened | Pointed | Reconciled | Stop


@dataclass(frozen=True)
class Periods:
    """How often things are done again, in seconds."""

    reconcile_s: float = 300.0
    resend_s: float = 30.0
    save_again_s: float = 5.0


class Agent:
    """Runs one device. `run` ends by `stop`, or by an exception such as SystemExit from a signal."""

    def __init__(
        self,
        *,
        device_id: DeviceId,
        fingerprint: Fingerprint,
        outside: Outside,
        link: Link,
        web: Web,
        backoff: Backoff | None = None,
        periods: Periods | None = None,
    ) -> None:
        self._device_id = device_id
        self._fingerprint = fingerprint
        self._outside = outside
        self._link = link
        self._web = web
        self._backoff = backoff or Backoff()
        self._periods = periods or Periods()
        self._state = recall(outside.disk, outside.data)
        self._inbox: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._timers = Timers(time.monotonic)
        self._workers: dict[str, Worker] = {}
        self._outgoing = Outgoing(link)
        self._unanswered = 0  # how often in a row the registry was not reached

    def run(self) -> None:
        """Take up what was going on, connect, and do what is desired until stopped."""
        try:
            self._heal()
            self._change(lambda state: device.restart(state, self._outside.clock()))
            self._link.start(self._inbox.put)
            self._timers.set("reconcile", 0, self._reconcile)
            while True:
                self._timers.run_due()
                try:
                    item = self._inbox.get(timeout=self._timers.next_s())
                except queue.Empty:
                    continue
                if isinstance(item, Stop):
                    return
                self._handle(item)
        finally:
            self._link.stop()
            for worker in self._workers.values():
                worker.close(timeout_s=0.5)

    def stop(self) -> None:
        """End `run`, from any thread."""
        self._inbox.put(Stop())

    def _handle(self, item: Item) -> None:
        match item:
            case Happened(model, event):
                self._change(lambda state: device.advance(state, model, event))
            case Heard(payload):
                self._take_up(lambda: decode(Desired, payload, what="the desired message"))
            case Reconciled(wanted, reached):
                self._reconciled(wanted, reached=reached)
            case LinkUp(session):
                self._connected(session)
            case LinkDown(session):
                self._outgoing.disconnected(session)
            case Delivered():
                done = self._outgoing.delivered(item)
                if done is not None:
                    self._change(lambda state: (device.acknowledged(state, {done}), ()))
            case Pointed():
                self._report()

    # State.

    def _change(self, make: Callable[[AgentState], device.Change], then: Callable[[], object] = lambda: None) -> None:
        """Let `make` change the state; save, say and do what follows, and `then` when it is saved."""
        before = self._state
        after, effects = make(before)
        if after != before:
            if not self._save(after):
                self._timers.set(f"save {id(make)}", self._periods.save_again_s, lambda: self._change(make, then))
                return
            self._log_moves(before)
            self._watch_deadlines()
        self._outgoing.send(self._state.outbox)
        for effect in effects:
            self._start(effect)
        then()

    def _save(self, after: AgentState) -> bool:
        """Whether `after` is the state now. What could not be saved has not happened, and is to be tried again."""
        try:
            save_state(self._outside.disk, self._outside.data, after)
        except DeviceError as error:
            log.failure("state-not-saved", error, retry_in_s=self._periods.save_again_s)
            return False
        self._state = after
        return True

    def _log_moves(self, before: AgentState) -> None:
        known = {message.id for message in before.outbox}
        for message in self._state.outbox:
            if message.id not in known and message.channel is Channel.EXECUTION:
                said = json.loads(message.payload)
                fields = ("state", "execution", "artifact", "reason", "detail")
                log.info("execution", **{name: said[name] for name in fields if said[name] is not None})

    def _take_up(self, read: Callable[[], Desired]) -> None:
        try:
            wanted = read()
            if wanted.gen > self._state.gen:
                self._change(lambda state: device.take_up(state, wanted, self._outside.clock()), self._taken_up)
        except UserError as error:
            log.failure("desired-ignored", error)

    def _taken_up(self) -> None:
        log.info("desired-taken-up", gen=self._state.gen)
        self._report()

    def _heal(self) -> None:
        """Make the disk agree with the state: a switch or a clean-up may have been cut off."""
        for model in self._state.models.values():
            folder = self._outside.folder(model)
            try:
                folder.point(model.active)
                if model.run is None or not model.run.live:
                    folder.discard()
            except DeviceError as error:
                log.failure("model-not-healed", error, model=model.name)

    def _watch_deadlines(self) -> None:
        for name, model in self._state.models.items():
            run = model.run
            if run is None or not run.live or run.state in SWITCHED or run.assignment.deadline is None:
                continue
            event = DeadlinePassed(execution=run.execution, at=run.assignment.deadline, reason="deadline-passed")
            left_s = run.assignment.deadline - self._outside.clock()
            self._timers.set(f"deadline {name}", left_s, partial(self._handle, Happened(name, event)))

    # Effects.

    def _start(self, effect: Effect) -> None:
        run = effect.model.run
        if run is None:
            return
        name = effect.model.name
        if effect.do is Do.ABORT:
            self._timers.cancel(f"soak {name}")
            self._worker(f"model {name}").abort(run.execution)
        elif effect.do is Do.REPORT:
            self._report()
        elif effect.do is Do.SOAK:
            self._timers.set(f"soak {name}", run.assignment.policy.soak_s, lambda: self._submit(effect, run.execution))
        else:
            self._submit(effect, run.execution)

    def _submit(self, effect: Effect, owner: str) -> None:
        def job(abort: Abort) -> None:
            event = self._outside.perform(effect, abort)
            if event is not None:
                self._inbox.put(Happened(effect.model.name, event))
            if effect.do in (Do.ACTIVATE, Do.ROLL_BACK):
                self._inbox.put(Pointed())

        self._worker(f"model {effect.model.name}").submit(owner, job)

    def _worker(self, name: str) -> Worker:
        if name not in self._workers:
            self._workers[name] = Worker(name)
        return self._workers[name]

    # The cloud.

    def _connected(self, session: str) -> None:
        log.info("connected", session=session)
        self._outgoing.connected(session)
        self._introduce()
        self._resend()
        self._reconcile()

    def _introduce(self) -> None:
        """Say how things stand, to a cloud that may know nothing or have forgotten."""
        self._outgoing.unheard = False
        self._report()
        for message in device.last_words(self._state):
            self._outgoing.say(message.channel, message.execution, message.payload.encode())

    def _resend(self) -> None:
        """What the broker took for nobody is sent again, until somebody is there."""
        if self._outgoing.unheard:
            self._introduce()
        self._outgoing.again(self._state.outbox)
        if self._outgoing.up:
            self._timers.set("resend", self._periods.resend_s, self._resend)

    def _report(self) -> None:
        """Say what this device is and runs."""
        if not self._outgoing.up:
            return  # said at the next connection
        if not self._save(replace(self._state, reported_seq=self._state.reported_seq + 1)):
            # The number is not ours yet.
            self._timers.set("report", self._periods.save_again_s, self._report)
            return
        message = Reported(
            gen=self._state.gen,
            seq=self._state.reported_seq,
            active=active_models(self._outside, self._state),
            fingerprint=self._fingerprint,
            agent_version=__version__,
        )
        self._outgoing.say(Channel.REPORTED, None, encode(message))

    def _reconcile(self) -> None:
        """Ask the registry what is desired: a broker may lose what it took, and may be away for long."""
        path = f"/v1/devices/{self._device_id}/desired"

        def job(_abort: Abort) -> None:
            try:
                self._inbox.put(Reconciled(self._web.document(path, Desired), reached=True))
            except NotFound:
                self._inbox.put(Reconciled(None, reached=True))
            except EdgewrightError as error:
                log.failure("registry-not-asked", error)
                self._inbox.put(Reconciled(None, reached=False))

        # Set before the answer, which may never come; moved when it does.
        self._timers.set("reconcile", self._periods.reconcile_s, self._reconcile)
        self._worker("registry").submit("reconcile", job)

    def _reconciled(self, wanted: Desired | None, *, reached: bool) -> None:
        self._unanswered = 0 if reached else self._unanswered + 1
        wait_s = self._periods.reconcile_s if reached else self._backoff.delay_s(self._unanswered)
        self._timers.set("reconcile", wait_s, self._reconcile)
        if wanted is not None:
            self._take_up(lambda: wanted)
