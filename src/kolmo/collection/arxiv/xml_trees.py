"""XML from outside as a tree of elements; without document types, so that no entity grows or reads a file."""

from __future__ import annotations

from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder

from kolmo.errors import KolmoError
from kolmo.foreign import reason

MAX_XML_BYTES = 256 << 20
MAX_DEPTH = 100  # of elements in each other


def parse_xml(data: bytes, where: str) -> Element:
    """The root element; names of elements are without their name space.

    Args:
        data: the document.
        where: its name, for errors.

    Raises:
        KolmoError: it is not XML, is too large or too deep, or declares a document type.

    Example:
        >>> parse_xml(b"<a><b>c</b></a>", "x.xml").findtext("b")
        'c'
    """
    from xml.parsers.expat import ExpatError, ParserCreate

    if len(data) > MAX_XML_BYTES:
        raise KolmoError(f"{where}: has more than {MAX_XML_BYTES >> 20} MiB; it is not what arXiv publishes")
    builder = TreeBuilder()
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise KolmoError(f"{where}: has elements {MAX_DEPTH} deep in each other; it is not what arXiv publishes")
        builder.start(_local(name), attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(name))

    def refuse(*_: Any) -> NoReturn:
        raise KolmoError(f"{where}: declares a document type, which may hold entities; it is not what arXiv publishes")

    parser = ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
        return builder.close()
    except (ExpatError, ValueError, AssertionError) as error:
        raise KolmoError(f"{where}: is not XML ({reason(error)}); fetch it again") from None


def text_of(element: Element, name: str) -> str:
    """The text of a child, stripped; "" where there is none."""
    return (element.findtext(name) or "").strip()


def _local(name: str) -> str:
    return name.rpartition(" ")[2]
