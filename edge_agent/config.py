"""agent.toml: what the agent is told about itself. Every key is checked; an unknown one is an error.

registry = "http://127.0.0.1:8080"      # required
device = "bench-1"                      # else a name is made once and kept in <data>/identity
tenant = "default"
data = "/var/lib/edgewright"            # relative to the file's own folder
mqtt = {host = "127.0.0.1", port = 1883}  # else the registry is asked
runtimes = ["tflite"]                   # only these are offered; else all that are installed

[benchmark]
seconds = 2.0
"""

from __future__ import annotations

import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from edgewright.contracts.api import MqttEndpoint
from edgewright.contracts.errors import UserError, did_you_mean
from edgewright.contracts.ids import DEFAULT_TENANT, DeviceId, TenantId, parse_device_id, parse_tenant_id
from edgewright.contracts.wire import convert
from edgewright.edge_agent.storage import Disk, disk_errors, replace_file

IDENTITY_NAME = "identity"


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """`seconds`: how long one artifact is measured after its warm-up."""

    seconds: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """What agent.toml says, with what it leaves out filled in."""

    registry: str
    device: DeviceId | None = None
    tenant: TenantId = DEFAULT_TENANT
    data: Path = Path("/var/lib/edgewright")
    mqtt: MqttEndpoint | None = None
    runtimes: tuple[str, ...] | None = None
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)


_TABLES: Mapping[str, type] = {"mqtt": MqttEndpoint, "benchmark": BenchmarkConfig}


def read_config(path: Path) -> Config:
    """Read agent.toml.

    Raises:
        UserError: `config-missing`, `config-malformed`, `config-unknown-key`, `config-invalid`, `document-malformed`
            (a value of the wrong type), `device-malformed`, `tenant-malformed`.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            "config-missing", f"{path} cannot be read", found=error.strerror, next_step="give its path with --config"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError("config-malformed", f"{path} is not TOML", found=str(error)) from None
    _refuse_unknown(document, Config, "")
    for key, kind in _TABLES.items():
        if isinstance(document.get(key), dict):
            _refuse_unknown(document[key], kind, f"{key}.")
    if "registry" not in document:
        raise UserError(
            "config-invalid", f"{path} does not say where the registry is", expected='registry = "http://HOST:PORT"'
        )
    if isinstance(document.get("data"), str):
        document["data"] = path.parent.absolute() / document["data"]
    return _checked(convert(Config, document, what=str(path)))


def _refuse_unknown(table: Mapping[str, object], kind: type, prefix: str) -> None:
    known = [item.name for item in fields(kind)]
    for key in table:
        if key not in known:
            raise UserError(
                "config-unknown-key",
                f"agent.toml has the unknown key {prefix + key!r}",
                expected="one of " + ", ".join(prefix + name for name in known),
                next_step=did_you_mean(key, known, "remove it"),
            )


def _checked(config: Config) -> Config:
    if config.device is not None:
        parse_device_id(config.device)
    parse_tenant_id(config.tenant)
    url = urlsplit(config.registry)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UserError(
            "config-invalid", "registry is not a web address", expected="http://HOST:PORT", found=config.registry
        )
    if config.mqtt is not None and not (config.mqtt.host and 0 < config.mqtt.port < 65536):
        raise UserError(
            "config-invalid",
            "mqtt does not name a broker",
            expected="a host, and a port from 1 to 65535",
            found=f"{config.mqtt.host!r}, {config.mqtt.port}",
        )
    if config.runtimes == ():
        raise UserError(
            "config-invalid", "runtimes is empty, so nothing could run", next_step="name one, or remove the key"
        )
    if not 0 < config.benchmark.seconds <= 600:
        raise UserError(
            "config-invalid",
            "benchmark.seconds is out of range",
            expected="more than 0, at most 600",
            found=str(config.benchmark.seconds),
        )
    return config


def device_id(config: Config, disk: Disk) -> DeviceId:
    """The device's name: agent.toml's, or the one in `<data>/identity`, made and kept at the first start.

    Raises:
        UserError: `device-malformed`. DeviceError: `disk-full`, `disk-failed`.
    """
    if config.device is not None:
        return config.device
    path = config.data / IDENTITY_NAME
    with disk_errors(path):
        if path.exists():
            return parse_device_id(path.read_text(encoding="utf-8").strip())
    name = parse_device_id(f"device-{uuid.uuid4().hex[:12]}")
    replace_file(disk, path, f"{name}\n".encode())
    return name
