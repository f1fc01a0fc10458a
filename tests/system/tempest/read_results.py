"""Tempest's results, in the environment of Tempest: a subunit stream on standard input to lines of JSON."""

import json
import sys

import subunit
from testtools import StreamToDict

TEXTS = ("reason", "traceback")


def told(test: dict) -> None:
    texts = {name: content.as_text() for name, content in test["details"].items() if name in TEXTS}
    start, end = test["timestamps"]
    seconds = (end - start).total_seconds() if start and end else 0.0
    told_of = {"name": test["id"], "status": test["status"], "seconds": seconds, **texts}
    sys.stdout.write(json.dumps(told_of) + "\n")


stream = StreamToDict(told)
stream.startTestRun()
subunit.ByteStreamToStreamResult(sys.stdin.buffer).run(stream)
stream.stopTestRun()
