"""XMP sidecars: a rating and a label beside a photo, for darktable, digiKam and Lightroom.

Design choices:
* The photo is never written to. A rating that is there, in the sidecar or in the photo itself,
  stays unless one asks otherwise; so does a label. A rating of 0 is none: so XMP defines it.
* A sidecar that is there keeps every byte but those of the rating and the label: edits, keywords
  and comments of other programs stay as they wrote them.
* Two names are in use: `photo.jpg.xmp` (darktable, digiKam) and `photo.xmp` (Lightroom, which reads
  it beside raw files alone; digiKam where it is told to).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.parsers import expat

from PIL import Image

from qfm_iqm.culling.row import CullRow
from qfm_iqm.errors import QFMError
from qfm_iqm.files import write_whole
from qfm_iqm.image.fetch import is_url

Naming = Literal["full", "stem", "both"]

KEEPER_LABEL = "Green"  # a name of a color is what the three programs read as one

_XMP = "http://ns.adobe.com/xap/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_EXIF_RATING = 0x4746
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    f' <rdf:RDF xmlns:rdf="{_RDF}">\n'
    '  <rdf:Description rdf:about=""/>\n'
    " </rdf:RDF>\n"
    "</x:xmpmeta>\n"
    '<?xpacket end="w"?>\n'
)


@dataclass(frozen=True)
class _Property:
    """Where a sidecar holds a property: its value, from byte to byte."""

    value: str
    start: int
    end: int


@dataclass
class _Found:
    """What a sidecar holds.

    Attributes:
        properties: of XMP's basic namespace, by name.
        tag: the end of the first description's name, where attributes go; None if there is none.
        prefix: of XMP's basic namespace there; empty if it has none.
    """

    properties: dict[str, _Property] = field(default_factory=dict)
    tag: int | None = None
    prefix: str = ""


@dataclass
class Outcome:
    """What came of writing sidecars.

    Attributes:
        written: how many hold the rating now.
        kept: how many kept the rating that was there.
        problems: a sentence for each that was not written.
    """

    written: int = 0
    kept: int = 0
    problems: list[str] = field(default_factory=list)


def write_sidecars(rows: Iterable[CullRow], naming: Naming, *, overwrite: bool = False) -> Outcome:
    """Writes the ratings of culled photos into sidecars, and the label of those that are kept.

    A sidecar that two photos would share (IMG_1.jpg and IMG_1.dng as IMG_1.xmp) is not written, nor
    is one of a photo that comes by URL.

    Args:
        rows: of the photos.
        naming: of the sidecars.
        overwrite: replace ratings and labels that are there.
    """
    outcome = Outcome()
    rated = [row for row in rows if row.rating is not None]
    local = [row for row in rated if not is_url(row.path)]
    outcome.problems += [
        f"{row.path} is no local file: it has no sidecar." for row in rated if is_url(row.path)
    ]
    shared = Counter(sidecar for row in local for sidecar in sidecars_of(row.path, naming))
    for row in local:
        for sidecar in sidecars_of(row.path, naming):
            if shared[sidecar] > 1:
                outcome.problems.append(
                    f"{shared[sidecar]} photos would share {sidecar}, {row.path} among them: it "
                    "is not written."
                )
                continue
            label = KEEPER_LABEL if row.keep else None
            try:
                done = write_sidecar(
                    sidecar, Path(row.path), int(row.rating or 0), label, overwrite=overwrite
                )
            except QFMError as error:
                outcome.problems.append(str(error))
                continue
            outcome.written += done
            outcome.kept += not done
    return outcome


def sidecars_of(photo: str, naming: Naming) -> list[Path]:
    """The sidecars of a photo."""
    path = Path(photo)
    full, stem = path.with_name(f"{path.name}.xmp"), path.with_suffix(".xmp")
    return {"full": [full], "stem": [stem], "both": [full, stem]}[naming]


def write_sidecar(
    sidecar: Path, photo: Path, rating: int, label: str | None, *, overwrite: bool = False
) -> bool:
    """Writes a rating, and a label, into a sidecar; made if it is not there.

    Args:
        sidecar: the file.
        photo: that it belongs to.
        rating: 1 to 5.
        label: name of a color; None leaves the label alone.
        overwrite: replace a rating and a label that are there.

    Returns:
        Whether the rating was written; if not, there was one already.

    Raises:
        QFMError: what is there is no XMP that can be changed, or cannot be written.
    """
    try:
        content = sidecar.read_bytes() if sidecar.exists() else None
    except OSError as error:
        raise QFMError(f"The sidecar {sidecar} cannot be read: {error.strerror}.") from error
    text = _EMPTY.encode() if content is None else content
    rated = _has_rating(_parsed(text, sidecar)) or (content is None and _rated_itself(photo))
    wanted = {} if rated and not overwrite else {"Rating": str(rating)}
    labelled = _parsed(text, sidecar).properties.get("Label")
    if label is not None and (overwrite or labelled is None or not labelled.value):
        wanted["Label"] = label
    changed = text
    for name, value in wanted.items():
        changed = _with(changed, name, value, sidecar)
    if wanted:
        write_whole(changed.decode(), sidecar)
    return "Rating" in wanted


def read_sidecar(content: bytes) -> dict[str, str]:
    """The rating and label that XMP holds, as text; empty if it holds none.

    Raises:
        QFMError: it is no XMP.
    """
    found = _parsed(content, Path("XMP")).properties
    return {name: one.value for name, one in found.items() if name in ("Rating", "Label")}


def _has_rating(found: _Found) -> bool:
    """Whether XMP holds a rating: 0 stands for none."""
    rating = found.properties.get("Rating")
    return rating is not None and rating.value.strip() not in ("", "0")


def _rated_itself(photo: Path) -> bool:
    """Whether a photo carries a rating inside."""
    try:
        with Image.open(photo) as image:
            if image.getexif().get(_EXIF_RATING):
                return True
            packet = image.info.get("xmp")
    except Exception:  # what cannot be read holds no rating for anybody
        return False
    packet = packet.encode() if isinstance(packet, str) else packet
    try:
        return bool(packet) and _has_rating(_parsed(packet.strip(b"\0 \n"), photo))
    except QFMError:
        return False


def _with(content: bytes, name: str, value: str, sidecar: Path) -> bytes:
    """XMP with one property set, every other byte as it was."""
    found = _parsed(content, sidecar)
    if (held := found.properties.get(name)) is not None:
        return content[: held.start] + value.encode() + content[held.end :]
    if found.tag is None:
        raise QFMError(f"The sidecar {sidecar} holds no rdf:Description: it is not changed.")
    prefix = found.prefix or "xmp"
    declared = "" if found.prefix else f' xmlns:xmp="{_XMP}"'
    added = f'{declared} {prefix}:{name}="{value}"'.encode()
    return content[: found.tag] + added + content[found.tag :]


def _parsed(content: bytes, sidecar: Path) -> _Found:
    """Where XMP holds what.

    Raises:
        QFMError: it is no XML in UTF-8.
    """
    try:
        content.decode()
        return _parse(content)
    except (expat.ExpatError, UnicodeDecodeError) as error:
        raise QFMError(
            f"The sidecar {sidecar} is no XMP in UTF-8 ({error}): it is not changed."
        ) from error


def _parse(content: bytes) -> _Found:
    found = _Found()
    parser = expat.ParserCreate("UTF-8")
    scopes: list[dict[str, str]] = [{}]  # prefixes and their namespaces
    within: list[tuple[str, int]] = []  # open elements: name, end of the start tag

    def start(tag: str, attributes: dict[str, str]) -> None:
        at = parser.CurrentByteIndex
        own = {
            name.removeprefix("xmlns").removeprefix(":"): value
            for name, value in attributes.items()
            if name == "xmlns" or name.startswith("xmlns:")
        }
        scopes.append(scopes[-1] | own)
        name = _full(tag, scopes[-1])
        end = at + _tag_length(content[at:])
        if name == f"{_RDF} Description":
            if found.tag is None:
                found.tag = at + 1 + len(tag.encode())
                known = (p for p, uri in scopes[-1].items() if uri == _XMP and p)
                found.prefix = next(known, "")
            for key, span in _attributes(content[at:end], at):
                prefix, _, local = key.partition(":")
                if scopes[-1].get(prefix) == _XMP and local:
                    found.properties.setdefault(local, _Property(attributes[key], *span))
        within.append((name, end))

    def finish(_tag: str) -> None:
        scopes.pop()
        name, begun = within.pop()
        uri, _, local = name.rpartition(" ")
        inside = [one for one, _ in within]
        if uri == _XMP and inside and inside[-1] == f"{_RDF} Description":
            at = max(parser.CurrentByteIndex, begun)
            if content[begun - 2 : begun] != b"/>":
                value = content[begun:at].decode()
                found.properties.setdefault(local, _Property(value, begun, at))

    parser.StartElementHandler = start
    parser.EndElementHandler = finish
    parser.Parse(content, True)
    return found


def _full(tag: str, scope: dict[str, str]) -> str:
    """An element's namespace and name."""
    prefix, mark, local = tag.rpartition(":")
    return f"{scope.get(prefix if mark else '', '')} {local}"


def _tag_length(content: bytes) -> int:
    """Bytes of the start tag that a content begins with; quoted values may hold any mark."""
    match = re.match(rb"<(?:[^>\"']|\"[^\"]*\"|'[^']*')*>", content)
    assert match is not None  # the parser has read it
    return match.end()


def _attributes(tag: bytes, at: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Names of a start tag's attributes, and where their values lie."""
    for match in re.finditer(rb"([^\s<>=/\"']+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", tag):
        group = 2 if match[2] is not None else 3
        yield match[1].decode(), (at + match.start(group), at + match.end(group))
