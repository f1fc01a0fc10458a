"""What a real service has and this one has not: told to whoever asks for it, with what to do instead.

The answer is the 404 of a service that has the extension turned off; only its words are more than those.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from muster.base.errors import NotFound

NO_RESOURCE = "The resource could not be found."

# Pattern of a path, which covers what is below it, to what there is none of.
Absences = Mapping[str, str]


def not_found(path: str, absences: Absences) -> NotFound:
    """The error of a path that no route has."""
    for pattern, what in absences.items():
        if fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*"):
            return NotFound(f"The resource could not be found: this cloud has no {what}.", code="http.path")
    return NotFound(NO_RESOURCE, code="http.path")
