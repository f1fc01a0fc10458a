"""The settings file: what is refused, by name and without showing a secret, and that all of it is documented."""

from pathlib import Path

import msgspec
import pytest

from muster.base.errors import Invalid
from muster.cli.settings import Settings, read_settings, require_host, require_serve

SECRET = "s" * 40
WHOLE = f"""
folder = "/var/lib/muster"
secret = "{SECRET}"
[engines]
database_url = "postgresql://muster:hidden@db/muster"
locks_url = "etcd://muster:hidden@e1:2379,e2:2379"
bus_url = "amqp://muster:hidden@mq/muster"
[serve]
workers = 4
placement = "pack"
public_url = "https://cloud.example.org"
[host]
api_url = "http://10.0.0.1:8774"
host_ip = "10.0.0.2"
"""
DOCUMENTATION = Path(__file__).parents[3] / "docs" / "subsystems" / "cluster.md"


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "muster.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    settings = read_settings(path)
    assert settings.folder == Path("/var/lib/muster")
    assert (settings.serve.workers, settings.serve.placement.value, settings.serve.port) == (4, "pack", 8774)
    require_serve(settings, path)
    require_host(settings, path, is_real=True)
    assert SECRET not in repr(settings)
    assert "hidden" not in repr(settings.engines)


MODES = [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o660, False)]


@pytest.mark.parametrize(("mode", "is_right"), MODES)
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int, is_right: bool) -> None:
    path = written(tmp_path, WHOLE, mode)
    if is_right:
        read_settings(path)
    else:
        with pytest.raises(Invalid, match="chmod 600"):
            read_settings(path)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('folder = "/var/lib/muster"', "", "folder: is missing"),
        ('"/var/lib/muster"', '"var/lib"', "folder: .* begins with /"),
        ('"/var/lib/muster"', "3", "folder: expected `str`, a path"),
        (SECRET, "short", "secret: .* 32 characters"),
        ("[engines]", 'previous_secrets = ["short"]\n[engines]', "previous_secrets: .* 32 characters"),
        ("[engines]", f'previous_secrets = "{SECRET}"\n[engines]', "previous_secrets: expected `array`"),
        ("[engines]", f'previous_secrets = ["{SECRET}"]\n[engines]', "admin_password: .* password of clouds.yaml"),
        ("workers = 4", "worker = 4", r"serve\.worker: no such setting; \[serve\] has bind, port, workers"),
        ("workers = 4", "workers = 0", "serve.workers: expected `int` >= 1"),
        ("workers = 4", 'workers = "4"', "serve.workers: expected `int`, got `str`"),
        ("workers = 4", "port = 70000", "serve.port: expected `int` <= 65535"),
        ("workers = 4", "drain_s = -1", "serve.drain_s: expected `float` >= 0"),
        ("workers = 4", 'bind = "localhost"', "serve.bind: .* IP address"),
        ("workers = 4", "metrics_port = 65535", "serve.metrics_port: .* room for all workers"),
        ("workers = 4", 'metrics_bind = "all"', "serve.metrics_bind: .* IP address"),
        ('"pack"', '"random"', "serve.placement: invalid enum value 'random'"),
        ("[engines]", "colour = 1\n[engines]", "colour: no such setting; there are folder, secret"),
        ("[host]", "[hosts]", "hosts: no such setting"),
        ("https://cloud", "ftp://cloud", "serve.public_url: .* http://host:port"),
        ("http://10.0.0.1:8774", "10.0.0.1:8774", "host.api_url: .* http://host:port"),
        ("workers = 4", 'image_url = "10.0.0.1:8774"', "serve.image_url: .* http://host:port"),
        ("workers = 4", f'image_url = "http://{"a" * 250}:8774"', "serve.image_url: .* at most 255"),
        ("workers = 4", "image_copies = 0", "serve.image_copies: expected `int` >= 1"),
        ("10.0.0.2", "10.0.0.256", "host.host_ip: .* IP address"),
        ("@db/muster", "@db:::/muster", "engines.database_url: .* is not host:port"),
        ("postgresql://", "mysql://", "engines.database_url: The URL must begin with postgresql://"),
        ("amqp://muster", "http://muster", "engines.bus_url: The URL must begin with amqp://"),
        ("mq/muster", "mq/muster?speed=3", "engines.bus_url: .* options that do not exist: speed"),
        ("e2:2379", "e2:port", "engines.locks_url: .* is not host:port"),
        ("workers = 4", 'guest_image = "/no/such/image"', "serve.guest_image: .* image that is there"),
        ("workers = 4", "workers = ", "is not TOML"),
    ],
)
def test_what_is_not_right_is_named(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in WHOLE
    with pytest.raises(Invalid, match=said) as refused:
        read_settings(written(tmp_path, WHOLE.replace(before, after, 1)))
    assert "hidden" not in refused.value.message


def test_a_database_behind_a_socket_or_on_several_hosts(tmp_path: Path) -> None:
    for url in ("postgresql://muster@/muster?host=/run/postgresql", "postgresql://muster:hidden@db1:5432,db2/muster"):
        path = written(tmp_path, WHOLE.replace("postgresql://muster:hidden@db/muster", url))
        require_serve(read_settings(path), path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f'secret = "{SECRET}"', "secret"),
        ('database_url = "postgresql://muster:hidden@db/muster"', r"engines\.database_url"),
        ('locks_url = "etcd://muster:hidden@e1:2379,e2:2379"', r"engines\.locks_url"),
        ('bus_url = "amqp://muster:hidden@mq/muster"', r"engines\.bus_url"),
    ],
)
def test_what_serve_cannot_do_without(tmp_path: Path, line: str, said: str) -> None:
    path = written(tmp_path, WHOLE.replace(line, "", 1))
    with pytest.raises(Invalid, match=said):
        require_serve(read_settings(path), path)


def test_a_host_needs_the_bus_and_with_real_guests_the_images(tmp_path: Path) -> None:
    path = written(tmp_path, 'folder = "/x"\n[engines]\nbus_url = "amqp://mq"\n')
    require_host(read_settings(path), path, is_real=False)
    with pytest.raises(Invalid, match=r"host\.api_url"):
        require_host(read_settings(path), path, is_real=True)
    path = written(tmp_path, 'folder = "/x"\n')
    with pytest.raises(Invalid, match=r"engines\.bus_url"):
        require_host(read_settings(path), path, is_real=False)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read: No such file"):
        read_settings(tmp_path / "none.toml")


def test_every_setting_is_documented() -> None:
    text = DOCUMENTATION.read_text()
    names = []
    for field in msgspec.structs.fields(Settings):
        inner = field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            names += [f"{field.name}.{name}" for name in inner.__struct_fields__]
        else:
            names.append(field.name)
    assert len(names) > 15
    assert [name for name in names if f"| `{name}` |" not in text] == []
