"""Requests to the cloud's APIs, each timed."""

import time
from collections.abc import Callable

from muster.base.errors import MusterError
from muster.client.api import Api, Call, Tally
from muster.client.cloud import Cloud
from muster.client.http import HttpClient
from muster.client.http_connection import Response

Noted = Callable[[str, float, bool], None]


class TimedApi(Api):
    """Tells what each request was, how long its answer took, and whether it went well."""

    def __init__(self, http: HttpClient, cloud: Cloud, noted: Noted) -> None:
        super().__init__(http, cloud, Tally())
        self._noted = noted

    async def send(self, call: Call) -> Response:
        began_s = time.monotonic()
        try:
            response = await super().send(call)
        except MusterError:
            self._noted(call.what, time.monotonic() - began_s, False)
            raise
        self._noted(call.what, time.monotonic() - began_s, True)
        return response
