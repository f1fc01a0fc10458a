"""The little that the lab itself asks of the cloud: which hosts are up."""

import http.client
import json
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from muster.base.errors import Transient

#: A proxy for the world, which the environment may name, has no way to a lab.
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_ANSWER_S = 30.0
_FRESH_S = 1.0


class HostList:
    """Which hosts the control plane has heard of lately; asked at most every second, however many want to know."""

    def __init__(self, clouds_yaml: Path) -> None:
        self._clouds_yaml = clouds_yaml
        self._lock = threading.Lock()
        self._token: str | None = None
        self._up: frozenset[str] = frozenset()
        self._asked_at_s = float("-inf")

    def up(self) -> frozenset[str]:
        """Their names. Raises Transient when the API does not answer. One request, and one more for a token."""
        with self._lock:
            if time.monotonic() - self._asked_at_s > _FRESH_S:
                try:
                    self._up = self._ask()
                except Transient:
                    self._token = None  # it may be the token
                    raise
                self._asked_at_s = time.monotonic()
            return self._up

    def _ask(self) -> frozenset[str]:
        try:
            auth = yaml.safe_load(self._clouds_yaml.read_text())["clouds"]["muster"]["auth"]
        except FileNotFoundError as error:
            raise Transient("the lab's API has not been there yet") from error
        base_url = auth["auth_url"].removesuffix("/identity/v3")
        if self._token is None:
            user = {"name": auth["username"], "domain": {"id": auth["user_domain_id"]}, "password": auth["password"]}
            scope = {"project": {"name": auth["project_name"], "domain": {"id": auth["project_domain_id"]}}}
            body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
            _, self._token = _ask(f"{base_url}/identity/v3/auth/tokens", body)
        found, _ = _ask(f"{base_url}/compute/v2.1/os-services?binary=nova-compute", token=self._token)
        return frozenset(service["host"] for service in found["services"] if service["state"] == "up")


def _ask(url: str, body: object = None, token: str | None = None) -> tuple[Any, str | None]:
    """The body of an answer, and the token in its headers."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"X-Auth-Token": token} if token else {})
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - http, to a part of the lab
    try:
        with NO_PROXY.open(request, timeout=_ANSWER_S) as answer:
            return json.load(answer), answer.headers.get("X-Subject-Token")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Transient(f"the lab's API does not answer: {error}") from error
