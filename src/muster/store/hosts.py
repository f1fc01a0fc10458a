"""Hosts: what they have, what is claimed of it, and how far the messages with them have come.

`*_limit` is what may be claimed (capacity less the reserve, times the overcommit); a claim is one conditional update
that never passes it. `desired_seq` grows with each change of what the host should have, `report_seq` is the newest
report written.
"""

from sqlalchemy import Column, Float, String, Table

from muster.store.columns import counter, flag, identity_column, integer, moment, text
from muster.store.engine import metadata

hosts = Table(
    "hosts",
    metadata,
    identity_column(),
    Column("hostname", String(255), nullable=False, unique=True),
    text("hypervisor_type"),
    integer("hypervisor_version"),
    text("host_ip"),
    text("cpu_info", default=""),
    text("availability_zone", default="nova"),
    flag("firewall", default=True),
    integer("vcpus"),
    integer("ram_mib"),
    integer("disk_gib"),
    integer("reserved_ram_mib", default=0),
    integer("vcpus_limit"),
    integer("ram_limit_mib"),
    integer("disk_limit_gib"),
    integer("vcpus_used", default=0),
    integer("ram_used_mib", default=0),
    integer("disk_used_gib", default=0),
    integer("servers_used", default=0),
    flag("disabled"),
    text("disabled_reason", nullable=True),
    flag("forced_down"),
    Column("last_seen_at", Float(53), nullable=False),
    counter("desired_seq"),
    counter("report_seq"),
    moment("created_at"),
    moment("updated_at"),
)
