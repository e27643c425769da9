"""Edits XMP packets in place: sets a property and keeps every other byte.

Edits, keywords and comments of other programs are thus kept. Properties may be attributes of an
rdf:Description or elements in it.
"""

import re
from dataclasses import dataclass
from xml.parsers import expat

from qfm_iqm.errors import QFMError

_XMP = "http://ns.adobe.com/xap/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DESCRIPTION = f"{_RDF} Description"
_START_TAG = re.compile(rb"<(?:[^>\"']|\"[^\"]*\"|'[^']*')*>")
_ATTRIBUTE = re.compile(rb"([^\s<>=/\"']+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")

EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    f' <rdf:RDF xmlns:rdf="{_RDF}">\n'
    f'  <rdf:Description rdf:about="" xmlns:xmp="{_XMP}"/>\n'
    " </rdf:RDF>\n"
    "</x:xmpmeta>\n"
    '<?xpacket end="w"?>\n'
).encode()


@dataclass(frozen=True)
class Property:
    """A property in a packet.

    Attributes:
        value: value as written.
        start: offset of its first byte; of `/>` for an empty element.
        end: offset after its last byte.
        empty: name of an empty element.
    """

    value: str
    start: int
    end: int
    empty: str = ""


class Packet:
    """An XMP packet.

    Args:
        content: XML in UTF-8.
        name: name of the packet in errors.

    Attributes:
        content: content with all changes.
        properties: properties in XMP's basic namespace (xmp:Rating, xmp:Label, ...), by name.

    Raises:
        QFMError: the content is not XMP in UTF-8.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self.content = content
        self._name = name
        self._read()

    def set(self, name: str, value: str) -> None:
        """Sets a property in place, or adds it to the first description."""
        held = self.properties.get(name)
        if held is not None:
            start, end, text = held.start, held.end, value
            if held.empty:
                text = f">{value}</{held.empty}>"
        else:
            declared = "" if self._prefix else f' xmlns:xmp="{_XMP}"'
            start = end = self._place
            text = f'{declared} {self._prefix or "xmp"}:{name}="{value}"'
        self.content = self.content[:start] + text.encode() + self.content[end:]
        self._read()

    def _read(self) -> None:
        """Finds the properties and their positions."""
        self.properties: dict[str, Property] = {}
        self._place, self._prefix = -1, ""
        self._scopes: list[dict[str, str]] = [{}]  # namespaces by prefix
        self._open: list[tuple[str, int]] = []  # open elements: name, offset after the start tag
        self._parser = expat.ParserCreate("UTF-8")
        self._parser.StartElementHandler = self._started
        self._parser.EndElementHandler = self._ended
        try:
            self.content.decode()
            self._parser.Parse(self.content, True)
        except (expat.ExpatError, UnicodeDecodeError) as error:
            raise QFMError(f"{self._name} is not XMP in UTF-8 ({error}).") from error
        if self._place < 0:
            raise QFMError(f"{self._name} is not XMP: it holds no rdf:Description.")

    def _started(self, tag: str, attributes: dict[str, str]) -> None:
        scope = self._scopes[-1] | {
            name[6:]: value for name, value in attributes.items() if name.startswith("xmlns:")
        }
        prefix, _, local = tag.rpartition(":")
        name = f"{scope.get(prefix, '')} {local}"
        start = self._parser.CurrentByteIndex
        text = _START_TAG.match(self.content, start)
        if text is None:  # the tag comes from an entity
            raise QFMError(f"{self._name} defines XML entities, which are not supported.")
        self._scopes.append(scope)
        self._open.append((name, text.end()))
        if self._described() != 1 or name != _DESCRIPTION:
            return
        if self._place < 0:
            self._place = start + 1 + len(tag.encode())
            self._prefix = next((p for p, uri in scope.items() if uri == _XMP), "")
        for found in _ATTRIBUTE.finditer(self.content, start, text.end()):
            prefix, _, local = found[1].decode().rpartition(":")
            if scope.get(prefix) == _XMP:
                span = found.span(2 if found[2] is not None else 3)
                self._hold(local, *span)

    def _ended(self, tag: str) -> None:
        self._scopes.pop()
        name, start = self._open.pop()
        uri, _, local = name.rpartition(" ")
        within = self._open[-1][0] if self._open else ""
        if uri == _XMP and within == _DESCRIPTION and self._described() == 1:
            if self.content[start - 2 : start] == b"/>":
                self._hold(local, start - 2, start, end_tag=tag)
            else:
                self._hold(local, start, self._parser.CurrentByteIndex)

    def _described(self) -> int:
        """How many descriptions are open; one within another describes another photo."""
        return sum(name == _DESCRIPTION for name, _ in self._open)

    def _hold(self, name: str, start: int, end: int, end_tag: str = "") -> None:
        value = "" if end_tag else self.content[start:end].decode().strip()
        self.properties.setdefault(name, Property(value, start, end, end_tag))
