"""Errors as a page: what Glance answers to those who ask for no JSON, line by line as its clients take it apart."""

from html import escape
from http import HTTPStatus

from muster.api.http.responses import Response

_PAGE = """<html>
 <head>
  <title>{code}</title>
 </head>
 <body>
  <h1>{code}</h1>
  {message}<br /><br />
 </body>
</html>"""


def html_error(code: str, message: str, status: HTTPStatus) -> Response:
    """The page. `code` is the status in words, `message` plain text."""
    response = Response(status=status, headers={"Content-Type": "text/html; charset=UTF-8"})
    response.body = _PAGE.format(code=code, message=escape(message, quote=False)).encode(errors="replace")
    return response
