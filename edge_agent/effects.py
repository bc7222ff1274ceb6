"""Do what the machine asks for, and say what came of it.

Rules: every effect may be done twice, with the same end; a failure of our tree becomes an event that carries its code;
only one artifact is tried at a time, whatever the number of models, or they would spoil each other's figures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgewright.contracts.errors import ArtifactError, DeviceError, EdgewrightError, UserError
from edgewright.contracts.messages import Candidate
from edgewright.edge_agent import events as e
from edgewright.edge_agent import log
from edgewright.edge_agent.download import Downloader
from edgewright.edge_agent.machine import Effect
from edgewright.edge_agent.slots import ModelFolder
from edgewright.edge_agent.state import ModelState, Run
from edgewright.edge_agent.storage import Disk, disk_errors
from edgewright.edge_agent.table import Do
from edgewright.edge_agent.trials import Trials
from edgewright.edge_agent.worker import Abort, Aborted
from edgewright.hardware_profiles.selection import Choice
from edgewright.measurement.artifact import read_manifest, verify_files

Choose = Callable[[tuple[Candidate, ...]], Choice]
"""The candidate that fits this device best. Raises DeviceError `no-artifact-fits`."""

_TICK_S = 0.2


@dataclass(frozen=True)
class Outside:
    """Everything an effect works with."""

    data: Path
    disk: Disk
    choose: Choose
    downloader: Downloader
    trials: Trials
    clock: Callable[[], float]
    measuring: threading.Lock = field(default_factory=threading.Lock)

    def folder(self, model: ModelState) -> ModelFolder:
        """Where `model` lies."""
        return ModelFolder.of(self.data, model.name, self.disk)

    def perform(self, effect: Effect, abort: Abort) -> e.Event | None:
        """Do `effect`; what came of it, None where nobody waits for it. Raises Aborted when told to stop."""
        model = effect.model
        if model.run is None:
            return None
        try:
            with disk_errors(self.folder(model).root):
                return self._perform(effect.do, model, model.run, abort)
        except EdgewrightError as error:
            log.failure("effect-failed", error, effect=effect.do, model=model.name)
            detail = error.what if error.found is None else f"{error.what} (found {error.found})"
            return self._tell(e.EffectFailed, model.run, reason=error.code, detail=detail)
        except Aborted:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of a thread: an execution must end, not hang
            detail = f"a defect in edgewright: {type(error).__name__}: {error}"
            log.warning("effect-failed", code="internal", what=detail, effect=effect.do, model=model.name)
            return self._tell(e.EffectFailed, model.run, reason="internal", detail=detail)

    def _perform(self, do: Do, model: ModelState, run: Run, abort: Abort) -> e.Event | None:
        folder = self.folder(model)
        match do:
            case Do.CHOOSE:
                return self._choose(run)
            case Do.DOWNLOAD:
                return self._download(folder, model, run, abort)
            case Do.VERIFY:
                return self._verify(folder, run)
            case Do.STAGE:
                folder.stage(run.candidate.artifact, run.slot)
                return self._tell(e.Placed, run)
            case Do.PROBE:
                passed, detail = self._probe(folder.slot(run.slot), abort)
                return self._tell(e.ProbePassed if passed else e.ProbeFailed, run, detail=detail)
            case Do.BENCHMARK:
                return self._benchmark(folder, run, abort)
            case Do.ACTIVATE:
                folder.point(run.slot)
                return self._tell(e.Activated, run)
            case Do.SOAK:
                passed, detail = self._probe(folder.stable, abort)
                if passed:
                    return self._tell(e.SoakPassed, run, detail=detail)
                return self._tell(e.EffectFailed, run, reason="probe-mismatch", detail=detail)
            case Do.ROLL_BACK:
                folder.point(model.active)
            case Do.DISCARD:
                folder.discard()
            case Do.ABORT | Do.REPORT:
                pass  # heard by the event loop, which owns the jobs and the link
        return None

    def _tell(self, kind: type[e.Event], run: Run, reason: str | None = None, detail: str | None = None) -> e.Event:
        return kind(execution=run.execution, at=self.clock(), reason=reason, detail=detail)

    def _choose(self, run: Run) -> e.Event:
        try:
            choice = self.choose(run.assignment.candidates)
        except DeviceError as error:
            return self._tell(e.NothingFits, run, reason=error.code, detail=error.found)
        detail = "; ".join(choice.reasons)
        return e.Chosen(execution=run.execution, at=self.clock(), candidate=choice.candidate, detail=detail)

    def _download(self, folder: ModelFolder, model: ModelState, run: Run, abort: Abort) -> e.Event:
        digest = run.candidate.artifact
        kept = model.slots.get(run.slot)
        # The free slot may still hold it, from before the model that is active now.
        if kept is None or kept.artifact != digest or folder.held(run.slot) != digest:
            self.downloader.fetch(digest, folder.incoming(digest), abort)
        return self._tell(e.Downloaded, run)

    def _verify(self, folder: ModelFolder, run: Run) -> e.Event:
        digest = run.candidate.artifact
        incoming = folder.incoming(digest)
        root = incoming if incoming.is_dir() else folder.slot(run.slot)
        try:
            manifest, found = read_manifest(root)
            if found != digest:
                return self._tell(e.VerifyFailed, run, reason="artifact-digest-mismatch", detail="the manifest changed")
            verify_files(root, manifest)
        except (ArtifactError, UserError) as error:
            return self._tell(e.VerifyFailed, run, reason=error.code, detail=error.what)
        return self._tell(e.Verified, run)

    def _probe(self, root: Path, abort: Abort) -> tuple[bool, str]:
        with self._alone(abort):
            verdict = self.trials.probe(root, abort)
        return verdict.passed, verdict.detail

    def _benchmark(self, folder: ModelFolder, run: Run, abort: Abort) -> e.Event:
        against = folder.slot(run.replaces) if run.replaces else None
        with self._alone(abort):
            report = self.trials.benchmark(folder.slot(run.slot), against, abort)
        return e.BenchmarkDone(execution=run.execution, at=self.clock(), report=report)

    @contextmanager
    def _alone(self, abort: Abort) -> Iterator[None]:
        while not self.measuring.acquire(timeout=_TICK_S):
            abort.check()
        try:
            yield
        finally:
            self.measuring.release()
