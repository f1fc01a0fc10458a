"""Section `[muster_ipam]` of neutron.conf."""

from typing import Any

from oslo_config import cfg

GROUP = "muster_ipam"

OPTIONS = [
    cfg.StrOpt(
        "lock_url",
        default="",
        secret=True,
        help="Where workers queue for a subnet: etcd://[user:password@]host:port[,host:port...][/prefix], etcds://... "
        "(with ?ca_file=, cert_file=, key_file=), or any URL of Tooz. Empty: in the database, on the subnet's row, "
        "which is right for one MySQL, MariaDB or PostgreSQL server; name a lock service for a Galera cluster that "
        "is written to on several nodes.",
    ),
    cfg.IntOpt(
        "lease",
        default=10,
        min=2,
        max=600,
        help="Seconds after which a worker that is stopped or cut off in the middle of an allocation has lost its "
        "lock, and after which the database ends the transaction of such a worker.",
    ),
    cfg.IntOpt(
        "lock_timeout",
        default=30,
        min=1,
        help="Seconds that an allocation waits for its subnet's lock before the API answers 503.",
    ),
    cfg.IntOpt(
        "batch",
        default=500,
        min=1,
        max=10_000,
        help="The most requests of one worker that are served under one lock.",
    ),
    cfg.StrOpt(
        "without_lock",
        default="refuse",
        choices=[
            ("refuse", "answer 503 with Retry-After and allocate nothing"),
            ("allocate", "go on without it, guarded by the subnet's row and the unique key alone"),
        ],
        help="What to do while the lock service is away.",
    ),
    cfg.IntOpt(
        "rest",
        default=60,
        min=0,
        help="Seconds that a released address rests before it is given to another port, unless the subnet runs dry.",
    ),
    cfg.IntOpt(
        "claim_age",
        default=60,
        min=10,
        help="Seconds after which an address that was decided, but whose port was never committed (its process died), "
        "goes back.",
    ),
    cfg.IntOpt(
        "promise_age",
        default=3600,
        min=10,
        help="Seconds after which an address that one of several ports of a request was given, but whose port was "
        "never committed (its process died, or the request failed midway), goes back; and one that a port had when its "
        "subnet was taken over, but has not any more. Longer than any such request takes.",
    ),
]


def register(conf: Any) -> Any:
    """Make the section known to `conf`, an oslo.config ConfigOpts; returns the section. May be called again."""
    conf.register_opts(OPTIONS, group=GROUP)
    return conf[GROUP]


def list_opts() -> list[tuple[str, list[Any]]]:
    """For oslo-config-generator."""
    return [(GROUP, OPTIONS)]
