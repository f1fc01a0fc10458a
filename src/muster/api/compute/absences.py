"""What Nova has, or had, and this cloud has not."""

from muster.api.http.absences import Absences

_NETWORKS = "networks and security groups in the compute API; use the network API"
_VOLUMES = "volumes"

ABSENCES: Absences = {
    **dict.fromkeys(
        (
            "/v2.1/os-networks",
            "/v2.1/os-tenant-networks",
            "/v2.1/os-security-groups",
            "/v2.1/os-security-group-rules",
            "/v2.1/os-security-group-default-rules",
        ),
        _NETWORKS,
    ),
    "/v2.1/os-floating-ip*": "floating addresses; servers are reached at the addresses of their networks",
    "/v2.1/images": "images in the compute API; use the image API",
    "/v2.1/os-volumes*": _VOLUMES,
    "/v2.1/os-snapshots": _VOLUMES,
    "/v2.1/os-assisted-volume-snapshots": _VOLUMES,
    "/v2.1/servers/*/os-volume_attachments/*": _VOLUMES,
    "/v2.1/servers/*/migrations/*": "migrations; a server stays on its host",
    "/v2.1/servers/*/shares": "shares",
    "/v2.1/os-aggregates/*/images": "caching of images; a host fetches one with its first server",
    "/v2.1/os-console-auth-tokens": "remote consoles",
    "/v2.1/os-server-external-events": "services beside it that tell of events; hosts tell what becomes of servers",
    "/v2.1/os-agents": "agents of guests to be managed",
    "/v2.1/os-cells": "cells to be managed",
}
