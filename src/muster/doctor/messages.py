"""Whether connections to RabbitMQ live through firewalls that forget idle ones (R B6)."""

import re
import tomllib
from collections.abc import Iterable
from urllib.parse import parse_qs

from muster.doctor.facts import Facts
from muster.doctor.findings import Check, Plan, Result, advice, good, not_known, problem
from muster.doctor.openstack import settings_of, unread
from muster.doctor.texts import for_people, rabbitmq_settings, whole_number

#: What is assumed of firewalls when nobody says: an hour is a usual idle time-out of the commercial ones.
_USUAL_IDLE_S = 3600
_KEEPALIVE_S, _INTERVAL_S, _PROBES = 60, 10, 6
_DEFAULT_HEARTBEAT_S = 60
_MUSTER_HEARTBEAT_S = 10


def _idle(plan: Plan) -> tuple[int, str]:
    if plan.idle_timeout_s is None:
        return _USUAL_IDLE_S, f"{_USUAL_IDLE_S} s, which is usual for firewalls (say yours: --idle-timeout-s)"
    return plan.idle_timeout_s, f"the {plan.idle_timeout_s} s after which the firewall forgets"


def _keepalive(facts: Facts, plan: Plan) -> Iterable[Result]:
    time_s = facts.sysctl("net.ipv4.tcp_keepalive_time")
    interval_s = facts.sysctl("net.ipv4.tcp_keepalive_intvl")
    probes = facts.sysctl("net.ipv4.tcp_keepalive_probes")
    if time_s is None or interval_s is None or probes is None:
        return not_known(facts.why_not_sysctl("net.ipv4.tcp_keepalive_time"))
    idle_s, said = _idle(plan)
    found = f"First probe after {time_s} s, the dead are noticed after {time_s + interval_s * probes} s"
    if time_s < idle_s:
        return good(f"{found}; below {said}")
    wanted_s = max(1, min(_KEEPALIVE_S, idle_s // 3))
    sysctls = {
        "net.ipv4.tcp_keepalive_time": wanted_s,
        "net.ipv4.tcp_keepalive_intvl": min(_INTERVAL_S, interval_s) or 1,
        "net.ipv4.tcp_keepalive_probes": _PROBES,
    }
    mend = f"sysctl -w net.ipv4.tcp_keepalive_time={wanted_s}"
    level = advice if plan.idle_timeout_s is None else problem
    return level(f"{found}; not below {said}", mend, sysctls)


def _own_conntrack(facts: Facts, _: Plan) -> Iterable[Result]:
    name = "net.netfilter.nf_conntrack_tcp_timeout_established"
    timeout_s, time_s = facts.sysctl(name), facts.sysctl("net.ipv4.tcp_keepalive_time")
    if timeout_s is None:
        why = facts.why_not_sysctl(name)
        return good("This machine tracks no connections") if "absent" in why else not_known(why)
    if time_s is not None and timeout_s <= time_s:
        return problem(
            f"This machine forgets connections after {timeout_s} s, and the first keepalive comes after {time_s} s",
            f"sysctl -w {name}=432000",
            {name: 432_000},
        )
    return good(f"This machine forgets connections after {timeout_s} s")


def _openstack(facts: Facts, plan: Plan) -> Iterable[Result]:
    idle_s, said = _idle(plan)
    found = []
    for service in facts.services:
        settings = settings_of(facts, service)
        threshold = settings.get(("oslo_messaging_rabbit", "heartbeat_timeout_threshold"))
        broker = next((setting for (_, name), setting in settings.items() if "transport_url" in name), None)
        if threshold is not None:
            found += _heartbeat(threshold.path, whole_number(threshold.value), idle_s, said)
        elif broker is not None:
            found += _heartbeat(broker.path, _DEFAULT_HEARTBEAT_S, idle_s, said)
    hidden = unread(facts, *facts.services)
    if hidden:
        found += not_known("; ".join(hidden))
    return found or good("No OpenStack service here says that it uses RabbitMQ")


def _heartbeat(path: str, seconds: int | None, idle_s: int, said: str) -> list[Result]:
    wanted_s = max(2, min(60, idle_s // 2))
    mend = f"[oslo_messaging_rabbit] heartbeat_timeout_threshold = {wanted_s} in {for_people(path)}"
    if seconds is None:
        return not_known(f"{path}: heartbeat_timeout_threshold is not a number")
    if seconds <= 0:
        return problem(f"{path}: heartbeats are off", mend)
    if seconds >= idle_s:
        return problem(f"{path}: a heartbeat within {seconds} s; not below {said}", mend)
    return good(f"{path}: a heartbeat within {seconds} s")


def _rabbitmq(facts: Facts, _: Plan) -> Iterable[Result]:
    folders = ("/etc/rabbitmq", "/etc/rabbitmq/conf.d", "/etc/kolla/rabbitmq")
    texts = [text for folder in folders for text in facts.below(folder).values()]
    unread = facts.unread(*folders)
    if not texts and not unread:
        return good("No RabbitMQ is set up here")
    settings: dict[str, str] = {}
    for text in texts:
        settings |= rabbitmq_settings(text)
    found = not_known("; ".join(unread)) if unread else []
    if settings.get("heartbeat") == "0":
        found += problem("heartbeat = 0: the broker asks for none", "heartbeat = 60 in /etc/rabbitmq/rabbitmq.conf")
    if settings.get("tcp_listen_options.keepalive", "true" if unread else "") != "true":
        found += advice(
            "The broker's connections have no TCP keepalive",
            "tcp_listen_options.keepalive = true in /etc/rabbitmq/rabbitmq.conf",
        )
    return found or good(f"Heartbeat {settings.get('heartbeat', '60')} s, TCP keepalive on")


def _muster(facts: Facts, plan: Plan) -> Iterable[Result]:
    idle_s, said = _idle(plan)
    found = []
    for path, text in facts.of_muster().items():
        url = _bus_url(text)
        if not url.startswith("amqp"):
            continue
        query = parse_qs(url.partition("?")[2])
        seconds = whole_number((query.get("heartbeat_s") or [str(_MUSTER_HEARTBEAT_S)])[-1])
        if seconds is None:
            found += not_known(f"{path}: heartbeat_s of bus_url is not a number")
        elif seconds >= idle_s:
            mend = f"heartbeat_s={_MUSTER_HEARTBEAT_S} in bus_url of {path}"
            found += problem(f"{path}: a heartbeat every {seconds} s; not below {said}", mend)
        else:
            found += good(f"{path}: a heartbeat every {seconds} s, and TCP keepalive")
    told = [path for process in facts.named("muster") for path in process.configuration]
    unread = facts.unread("/etc/muster", *told)
    return [*found, *(not_known("; ".join(unread)) if unread else ())] or good("Muster has no RabbitMQ here")


def _bus_url(text: str) -> str:
    """The URL, which may hold a password and is shown nowhere."""
    try:
        engines = tomllib.loads(text).get("engines", {})
    except (tomllib.TOMLDecodeError, RecursionError):
        found = re.search(r'^\s*bus_url\s*=\s*"([^"\n]*)"', text, re.MULTILINE)
        return found[1] if found else ""
    url = engines.get("bus_url", "") if isinstance(engines, dict) else ""
    return url if isinstance(url, str) else ""


_COST = "A firewall forgets the idle connection, messages to this host vanish, and servers are never created"

CHECKS = (
    Check(
        id="messages.tcp-keepalive",
        what="TCP keepalive of connections that ask for it",
        cost=_COST,
        source="R B6; tcp(7); https://www.rabbitmq.com/docs/heartbeats",
        run=_keepalive,
    ),
    Check(
        id="messages.own-conntrack",
        what="When this machine's own connection tracking forgets",
        cost=_COST,
        source="R B6; kernel documentation: nf_conntrack-sysctl",
        run=_own_conntrack,
    ),
    Check(
        id="messages.openstack-heartbeat",
        what="Heartbeats of OpenStack's services",
        cost=_COST,
        source="R B6; oslo.messaging: heartbeat_timeout_threshold",
        run=_openstack,
    ),
    Check(
        id="messages.rabbitmq",
        what="The broker's own side",
        cost="The broker keeps dead connections, and messages in their queues",
        source="R B6; https://www.rabbitmq.com/docs/heartbeats",
        run=_rabbitmq,
    ),
    Check(
        id="messages.muster-bus",
        what="Heartbeats of Muster",
        cost="A message is late by up to that",
        source="R B6; docs/subsystems/bus.md",
        run=_muster,
    ),
)
