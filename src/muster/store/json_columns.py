"""How both databases write and read JSON columns."""

from typing import Any

import msgspec


def _to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# A server has half a dozen JSON columns: the standard library's parser was a tenth of what creating one costs.
JSON: dict[str, Any] = {"json_serializer": _to_json, "json_deserializer": msgspec.json.decode}
