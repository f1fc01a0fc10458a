"""What Glance has and this cloud has not."""

from muster.api.http.absences import Absences

_DEFINITIONS = "definitions of metadata"
_IMPORT = "import of images; upload their content"

ABSENCES: Absences = {
    "/v1": "version 1 of the image API; use version 2",
    "/v2/images/*/stage": _IMPORT,
    "/v2/images/*/import": _IMPORT,
    "/v2/images/*/tasks": "tasks",
    "/v2/images/*/locations": "locations of images; upload their content",
    "/v2/tasks": "tasks",
    "/v2/schemas/task*": "tasks",
    "/v2/metadefs": _DEFINITIONS,
    "/v2/schemas/metadefs": _DEFINITIONS,
    "/v2/cache": "cache to be managed",
    "/v2/cached_images": "cache to be managed",
    "/v2/queued_images": "cache to be managed",
    "/v2/stores": "several stores",
    "/v2/info/stores/detail": "several stores",
}
