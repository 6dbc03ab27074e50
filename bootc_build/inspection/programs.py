"""What EFI programs carry in sections of their own: shim's certificates, generations for revocation (SBAT).

Formats: Microsoft's PE/COFF specification; shim's ``SBAT.md`` and ``cert.S`` (the section ``.vendor_cert``).
"""

import base64
import struct
from collections.abc import Mapping

Sections = Mapping[str, bytes]
_PE_OFFSET = 0x3C
_FILE_HEADER = struct.Struct("<4sHHIIIHH")
_SECTION = struct.Struct("<8sIIIIIIHHI")
_SYMBOL_BYTES = 18
_VENDOR_TABLE = struct.Struct("<IIII")
# A list of certificates instead of one begins with the GUID of its kind: EFI_CERT_X509_GUID.
_X509_LIST = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")
_LIST_HEADER = struct.Struct("<16sIII")
_OWNER_BYTES = 16
_SBAT_FIELDS = 2
_LINE = 64


def sections(program: bytes) -> Sections:
    """The sections of an EFI program by name; empty for what is none."""
    found: dict[str, bytes] = {}
    try:
        if program[:2] != b"MZ":
            return found
        (header,) = struct.unpack_from("<I", program, _PE_OFFSET)
        magic, _, count, _, symbols, symbol_count, optional, _ = _FILE_HEADER.unpack_from(
            program, header
        )
        texts = symbols + symbol_count * _SYMBOL_BYTES
        if magic != b"PE\0\0":
            return found
        for number in range(count):
            at = header + _FILE_HEADER.size + optional + number * _SECTION.size
            raw_name, used, _, stored, start, *_ = _SECTION.unpack_from(program, at)
            name = raw_name.rstrip(b"\0")
            if name[:1] == b"/" and name[1:].isdigit():
                # Longer than eight bytes: it stands in the table of texts.
                place = texts + int(name[1:])
                name = program[place : program.index(b"\0", place)]
            length = min(used, stored) or stored
            found[name.decode(errors="replace")] = program[start : start + length]
    except (struct.error, ValueError):
        return {}
    return found


def sbat(program: Sections) -> Mapping[str, str]:
    """Component to generation, from the sections of a program."""
    text = program.get(".sbat", b"").rstrip(b"\0").decode(errors="replace")
    rows = (line.split(",") for line in text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) >= _SBAT_FIELDS and row[0] != "sbat"}


def vendor_certificates(program: Sections) -> str:
    """The certificates (PEM) that shim has built in, from the sections of a program."""
    data = program.get(".vendor_cert", b"")
    if len(data) < _VENDOR_TABLE.size:
        return ""
    allowed_bytes, _, allowed_at, _ = _VENDOR_TABLE.unpack_from(data)
    allowed = data[allowed_at : allowed_at + allowed_bytes]
    return "".join(_pem(der) for der in _certificates(allowed))


def _certificates(data: bytes) -> list[bytes]:
    if not data.startswith(_X509_LIST):
        return [data] if data else []
    found = []
    at = 0
    while at + _LIST_HEADER.size <= len(data):
        kind, length, header, entry = _LIST_HEADER.unpack_from(data, at)
        if length < _LIST_HEADER.size:
            break
        if kind == _X509_LIST and entry > _OWNER_BYTES:
            start = at + _LIST_HEADER.size + header
            found += [
                data[place + _OWNER_BYTES : place + entry]
                for place in range(start, at + length, entry)
            ]
        at += length
    return found


def _pem(der: bytes) -> str:
    text = base64.b64encode(der).decode()
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])
