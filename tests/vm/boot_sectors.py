"""Guests of 512 bytes: they print a text on the first serial port, in a second, and then do one thing."""

from pathlib import Path

_ORIGIN = 0x7C00
_PRINT = bytes.fromhex(
    "fa fc 31c0 8ed8"  # cli; cld; xor ax,ax; mov ds,ax
    "be0000 baf803"  # mov si,text; mov dx,0x3f8
    "ac 84c0 7403 ee ebf8"  # next: lodsb; test al,al; jz done; out dx,al; jmp next
)
HALT = bytes.fromhex("f4 ebfd")  # hlt, for ever
RESTART = bytes.fromhex("b0fe e664 f4 ebfd")  # through the keyboard controller
LEAVE = bytes.fromhex("b010 e6f4 f4 ebfd")  # through isa-debug-exit

# wait: mov dx,0x3fd; in al,dx; test al,1; jz wait; mov dx,0x3f8; in al,dx; out dx,al; jmp wait
ECHO = bytes.fromhex("bafd03 ec a801 74f8 baf803 ec ee ebf1")  # what is typed, for ever

# For each byte that is typed, for ever: write sector 1 by the BIOS (int 13h) and print "+" or "-".
WRITE = bytes.fromhex(
    "bafd03 ec a801 74f8 baf803 ec"  # wait: as above; in al,dx
    "31c0 8ec0 b80103 bb007c b90200 ba8000 cd13"  # es:bx=0:7c00, one sector, to sector 2 of track 0
    "b02b 7302 b02d baf803 ee b00a ee ebd3"  # al='+'; jnc; al='-'; out; newline; jmp wait
)


def write_guest(path: Path, text: str, then: bytes = HALT) -> Path:
    """Write a disk of 1 MiB that boots such a guest; the path."""
    code = bytearray(_PRINT + then)
    at = (_ORIGIN + len(code)).to_bytes(2, "little")
    code[7:9] = at
    sector = bytes(code) + text.replace("\n", "\r\n").encode() + b"\0"
    if len(sector) > 510:
        raise ValueError("the text is too long for a boot sector")
    path.write_bytes(sector.ljust(510, b"\0") + b"\x55\xaa" + bytes(2**20 - 512))
    return path
