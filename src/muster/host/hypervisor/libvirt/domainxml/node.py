"""How a declared value becomes an XML element.

A `Node`'s fields, in order: another node (or a tuple of them) becomes a child, `Text` a child with that text named by
the field, the field `text` the element's own text, anything else an attribute; None leaves it out. Invariant: XML is
built, never pasted, and never holds a character that XML 1.0 does not allow.
"""

import functools
import re
from typing import Any, ClassVar
from xml.etree import ElementTree as ET

import msgspec
from msgspec import Struct

from muster.base.errors import Invalid

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Node(Struct, frozen=True, kw_only=True):
    """An element. `TAG` is its name; a field's name is changed with `rename` where Python does not allow it."""

    TAG: ClassVar[str]


class Text(Struct, frozen=True):
    """A child element that has only a text (or nothing at all), and perhaps a unit."""

    value: str | int = ""
    unit: str | None = None


def render(node: Node) -> str:
    """The element as XML text, indented. Raises Invalid when a value cannot stand in XML."""
    element = element_of(node)
    ET.indent(element)
    return ET.tostring(element, encoding="unicode") + "\n"


def element_of(node: Node) -> ET.Element:
    """The element of a node with all that is in it. Raises Invalid."""
    element = ET.Element(node.TAG)
    for name, encoded in _names(type(node)):
        _put(element, encoded, getattr(node, name))
    return element


@functools.cache
def _names(kind: type[Node]) -> list[tuple[str, str]]:
    """The fields and what they are called in XML; asking msgspec each time was most of a rendering's cost."""
    return [(field.name, field.encode_name) for field in msgspec.structs.fields(kind)]


def _put(element: ET.Element, name: str, value: Any) -> None:
    if value is None:
        return
    if name == "text":
        element.text = _allowed(str(value))
        return
    if isinstance(value, Node):
        element.append(element_of(value))
    elif isinstance(value, tuple):
        for item in value:
            _put(element, name, item)
    elif isinstance(value, Text):
        child = ET.SubElement(element, name, {} if value.unit is None else {"unit": _allowed(value.unit)})
        child.text = _allowed(str(value.value)) or None
    else:
        element.set(name, _allowed(str(value)))


def _allowed(text: str) -> str:
    if _NOT_XML.search(text):
        raise Invalid("a value has a character that XML does not allow")
    return text
