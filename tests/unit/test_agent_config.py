import pytest

from edgewright.contracts.errors import UserError
from edgewright.edge_agent.config import device_id, read_config
from edgewright.edge_agent.storage import Disk

REGISTRY = 'registry = "http://127.0.0.1:8080"\n'


def read(tmp_path, text):
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return read_config(path)


def test_a_registry_is_all_that_must_be_said(tmp_path):
    config = read(tmp_path, REGISTRY)
    assert (config.tenant, config.mqtt, config.runtimes, config.benchmark.seconds) == ("default", None, None, 2.0)


def test_everything_that_can_be_said_is_read(tmp_path):
    config = read(
        tmp_path,
        REGISTRY + 'device = "bench-1"\ntenant = "lab"\ndata = "d"\nruntimes = ["tflite"]\n'
        'mqtt = {host = "127.0.0.1", port = 1883}\n[benchmark]\nseconds = 0.5\n',
    )
    assert (config.device, config.tenant, config.data) == ("bench-1", "lab", tmp_path / "d")
    assert (config.mqtt.host, config.mqtt.port, config.runtimes) == ("127.0.0.1", 1883, ("tflite",))
    assert config.benchmark.seconds == 0.5


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("", "config-invalid", "registry"),
        ("registry = ", "config-malformed", "agent.toml"),
        (REGISTRY + 'devise = "x"', "config-unknown-key", "did you mean 'device'?"),
        (REGISTRY + "[benchmark]\nsecond = 1", "config-unknown-key", "did you mean 'seconds'?"),
        (REGISTRY + 'mqtt = {hots = "x"}', "config-unknown-key", "did you mean 'host'?"),
        (REGISTRY + 'mqtt = {host = "x", port = 0}', "config-invalid", "1 to 65535"),
        (REGISTRY + 'mqtt = {host = "x", port = "1"}', "document-malformed", "$.mqtt.port"),
        (REGISTRY + 'device = "Bench 1"', "device-malformed", "a-z"),
        (REGISTRY + 'tenant = "a/b"', "tenant-malformed", "a-z"),
        (REGISTRY + "runtimes = []", "config-invalid", "name one"),
        (REGISTRY + "[benchmark]\nseconds = 0", "config-invalid", "more than 0"),
        ('registry = "ftp://x"', "config-invalid", "http://HOST:PORT"),
        ("data = 3\n" + REGISTRY, "document-malformed", "$.data"),
    ],
)
def test_a_mistake_is_named_with_the_way_out(tmp_path, text, code, hint):
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert caught.value.code == code
    assert hint in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError) as caught:
        read_config(tmp_path / "none.toml")
    assert caught.value.code == "config-missing"


def test_a_device_without_a_name_makes_one_and_keeps_it(tmp_path):
    config = read(tmp_path, REGISTRY + 'data = "."')
    name = device_id(config, Disk())
    assert device_id(config, Disk()) == name
    assert (tmp_path / "identity").read_text().strip() == name
    other = tmp_path / "other"
    other.mkdir()
    assert device_id(read(other, REGISTRY + 'data = "."'), Disk()) != name


def test_a_configured_name_comes_before_a_kept_one(tmp_path):
    (tmp_path / "identity").write_text("kept\n")
    assert device_id(read(tmp_path, REGISTRY + 'data = "."\ndevice = "told"'), Disk()) == "told"
