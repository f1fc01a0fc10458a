"""How applications are served: what each answer says besides what the application says."""

import asyncio
from email.utils import parsedate_to_datetime
from http.client import parse_headers
from io import BytesIO

import pytest
from starlette.types import Receive, Scope, Send

from muster.api.http.responses import Response
from muster.cli.listening import bound, listening


async def _application(_scope: Scope, _receive: Receive, send: Send) -> None:
    await Response({"message": "here"}).send(send)


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1\r\nHost: here", b"NOT HTTP AT ALL"])
async def test_an_answer_has_the_date_of_its_moment_however_long_nobody_asked(request_line: bytes) -> None:
    """Bad requests' answers too."""
    dates = []
    with bound("127.0.0.1", 0, "") as listener:
        async with listening(_application, listener, 1.0):
            for pause_s in (0.0, 1.1, 0.0):
                await asyncio.sleep(pause_s)
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                writer.write(request_line + b"\r\n\r\n")
                async with asyncio.timeout(300):
                    head = await reader.readuntil(b"\r\n\r\n")
                writer.close()
                [date] = parse_headers(BytesIO(head.partition(b"\r\n")[2])).get_all("date") or []
                dates.append(parsedate_to_datetime(date).timestamp())
    assert dates[1] - dates[0] >= 1.0
    assert dates == sorted(dates)
