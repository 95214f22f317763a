"""XML that was looked at before any parser may expand it."""

import re
from pathlib import Path

LARGEST_BYTES = 256 * 1024 * 1024

_DECLARED_ENCODING = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)[\"']")
_PLAIN_ENCODINGS = {b"utf-8", b"utf8", b"us-ascii", b"ascii"}
_DECLARATION = re.compile(rb"<!\s*(doctype|entity)", re.IGNORECASE)


class UnsafeXml(ValueError):  # noqa: N818  (the name a caller reads is the condition)
    """A file that is not parsed, and why."""


def safe_xml(path: Path, *, largest_bytes: int = LARGEST_BYTES) -> bytes:
    """The bytes of an XML file that declares no document type, hence no entities to expand.

    Only UTF-8 is accepted: in another encoding a declaration could hide from this look.

    Args:
        path: The file.
        largest_bytes: Size in bytes above which it is not read.

    Raises:
        UnsafeXml: If it is too large, of another encoding, or declares a document type or entity.
        OSError: If it cannot be read.
    """
    size_bytes = path.stat().st_size
    if size_bytes > largest_bytes:
        raise UnsafeXml(f"has {size_bytes:,} bytes, more than the {largest_bytes:,} that are read")
    raw = path.read_bytes()
    declared = _DECLARED_ENCODING.match(raw.removeprefix(b"\xef\xbb\xbf"))
    if b"\0" in raw or (declared and declared[1].lower() not in _PLAIN_ENCODINGS):
        raise UnsafeXml("is not encoded as UTF-8, the only encoding that is read")
    if _DECLARATION.search(raw):
        raise UnsafeXml("declares a document type or entity, which is never expanded")
    return raw
