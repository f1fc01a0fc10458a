"""The driver stands beside Neutron's own pinned packages: it imports nothing of Muster that needs others."""

import subprocess
import sys

MUSTERS_OWN = ["structlog", "prometheus_client", "rich", "click", "starlette", "aetcd", "grpc", "aiosqlite", "yarl"]
MODULES = ["allocation", "allocator", "combiner", "etcd_lock", "locks", "maintenance", "sessions", "store", "tables"]


def test_no_package_that_neutron_has_not() -> None:
    code = (
        f"import sys; [__import__('muster.neutron.' + name) for name in {MODULES!r}]; "
        f"print([name for name in {MUSTERS_OWN!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"
