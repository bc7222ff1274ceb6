"""Releases, rollouts, devices: the routes that give and take the documents of contracts/api.py.

All of them block on the database, so they are plain functions, which FastAPI runs in its thread pool.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from sqlalchemy import text

from edgewright.contracts.api import Device, Endpoints, Fleet, NewRelease, NewRollout, Release, Rollout
from edgewright.contracts.errors import TransportError
from edgewright.contracts.ids import ReleaseRef, RolloutId, parse_device_id
from edgewright.contracts.messages import Desired, ExecutionEvent
from edgewright.registry import ingest, releases, rollouts, views
from edgewright.registry.documents import answer, body, describes
from edgewright.registry.services import Services

_Release = Annotated[NewRelease, Depends(body(NewRelease))]
_Rollout = Annotated[NewRollout, Depends(body(NewRollout))]
_Events = Annotated[tuple[ExecutionEvent, ...], Depends(body(tuple[ExecutionEvent, ...]))]


def release_routes(services: Services) -> APIRouter:
    """The routes under /v1/releases."""
    router = APIRouter(tags=["releases"])

    @router.post("/v1/releases", **describes(takes=NewRelease, gives=Release, status=201, fails=(409,)))
    def publish_release(new: _Release) -> Response:
        """Publish a release. 200 when the very same is published already."""
        release, created = releases.publish(services.database, services.store, new, services.clock())
        return answer(release, 201 if created else 200)

    @router.get("/v1/releases", **describes(gives=Release, many=True))
    def list_releases() -> Response:
        """All releases, the newest first."""
        with services.database.read() as session:
            return answer(releases.releases(session))

    @router.get("/v1/releases/{name}/{version}", **describes(gives=Release, fails=(404,)))
    def get_release(name: str, version: str) -> Response:
        """One release."""
        with services.database.read() as session:
            return answer(releases.release(session, ReleaseRef(name, version)))

    return router


def rollout_routes(services: Services) -> APIRouter:
    """The routes under /v1/rollouts."""
    router = APIRouter(tags=["rollouts"])

    @router.post("/v1/rollouts", **describes(takes=NewRollout, gives=Rollout, status=201, fails=(404,)))
    def create_rollout(new: _Rollout) -> Response:
        """Start a rollout."""
        with services.database.write() as session:
            rollout = rollouts.create(session, new, services.clock())
        # After the commit: what devices are told is what would be told again after a crash.
        services.messages.publish_desired(rollout.id)
        return answer(rollout, 201)

    @router.get("/v1/rollouts", **describes(gives=Rollout, many=True))
    def list_rollouts() -> Response:
        """All rollouts, the newest first."""
        with services.database.read() as session:
            return answer(views.rollouts(session))

    @router.get("/v1/rollouts/{rollout}", **describes(gives=Rollout, fails=(404,)))
    def get_rollout(rollout: str) -> Response:
        """One rollout."""
        with services.database.read() as session:
            return answer(views.rollout(session, RolloutId(rollout)))

    return router


def device_routes(services: Services) -> APIRouter:
    """The routes under /v1/devices, and the fleet."""
    router = APIRouter(tags=["devices"])

    @router.get("/v1/devices", **describes(gives=Device, many=True))
    def list_devices() -> Response:
        """All devices, by name."""
        with services.database.read() as session:
            return answer(views.fleet(session).devices)

    @router.get("/v1/devices/{device}", **describes(gives=Device, fails=(404,)))
    def get_device(device: str) -> Response:
        """One device."""
        with services.database.read() as session:
            return answer(views.device(session, parse_device_id(device)))

    @router.get("/v1/devices/{device}/desired", **describes(gives=Desired))
    def get_desired(device: str) -> Response:
        """What the device shall run, as it is published over MQTT; generation 0 when it was never given anything."""
        with services.database.read() as session:
            return answer(rollouts.desired(session, parse_device_id(device)))

    @router.post("/v1/devices/{device}/events", **describes(takes=ExecutionEvent, many=True, status=204, fails=(404,)))
    def post_events(device: str, events: _Events) -> Response:
        """Events that a broker may have lost. Known ones change nothing."""
        with services.database.write() as session:
            ingest.record_events(session, parse_device_id(device), events, services.clock())
        return Response(status_code=204)

    @router.get("/v1/fleet", **describes(gives=Fleet))
    def get_fleet() -> Response:
        """All devices in one document."""
        with services.database.read() as session:
            return answer(views.fleet(session))

    return router


def service_routes(services: Services) -> APIRouter:
    """Health, readiness, and where the other parts are."""
    router = APIRouter(tags=["service"])

    @router.get("/v1/endpoints", **describes(gives=Endpoints))
    def get_endpoints() -> Response:
        """Where the broker is."""
        return answer(services.endpoints)

    @router.get("/healthz", **describes())
    def get_health() -> Response:
        """The process answers."""
        return answer({"status": "ok"})

    @router.get("/readyz", **describes(fails=(503,)))
    def get_readiness() -> Response:
        """The database answers and the broker is connected."""
        with services.database.read() as session:
            session.execute(text("SELECT 1"))
        if not services.messages.ready:
            raise TransportError(
                "broker-unreachable",
                "the registry has no connection to its MQTT broker",
                next_step="wait a few seconds: it is started again by itself; then see the registry's log",
            )
        return answer({"status": "ready", "messages": dict(services.messages.counts)})

    return router
