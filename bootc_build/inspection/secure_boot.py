"""Which EFI programs are signed by whom, and whether shim would start them.

Firmware checks what it starts (shim) by its own keys, which are not in the disk; shim checks what it starts
(GRUB, and through it the kernel) by the firmware's keys and by the certificates built into it.
"""

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from bootc_build.inspection import programs
from bootc_build.inspection.records import SecureBoot, Signature, SignedProgram
from bootc_build.onhost.process import CommandError, MissingProgramError
from bootc_build.tools import sbsigntool


@dataclass(frozen=True)
class _Candidate:
    path: str
    data: bytes
    sections: programs.Sections


def examine(found: Iterable[tuple[str, bytes]]) -> SecureBoot:
    """Look at EFI programs.

    Args:
        found: where each is, and its bytes. What is no EFI program is left out.
    """
    try:
        sbsigntool.require()
        candidates = [
            _Candidate(path, data, sections)
            for path, data in sorted(found)
            if (sections := programs.sections(data))
        ]
        return _examine_all(candidates)
    except MissingProgramError as error:
        return SecureBoot(unchecked=f"{error.fact} {error.remedy}".strip())


def _examine_all(candidates: Iterable[_Candidate]) -> SecureBoot:
    candidates = list(candidates)
    trusted = "".join(
        dict.fromkeys(programs.vendor_certificates(each.sections) for each in candidates)
    )
    names = [_name_of(each) for each in sbsigntool.split_certificates(trusted)]
    known: dict[str, SignedProgram] = {}  # the same program lies in several places
    examined = []
    for each in candidates:
        digest = hashlib.sha256(each.data).hexdigest()
        if digest not in known:
            known[digest] = _examine(each, digest, trusted)
        examined.append(replace(known[digest], path=each.path))
    return SecureBoot(tuple(examined), tuple(dict.fromkeys(names)))


def _name_of(certificate: str) -> str:
    try:
        return sbsigntool.certificate_name(certificate)
    except CommandError:
        return "a certificate that cannot be read"


def _examine(candidate: _Candidate, digest: str, trusted: str) -> SignedProgram:
    sbat = programs.sbat(candidate.sections)
    with tempfile.NamedTemporaryFile(prefix="bootc-build-") as file:
        file.write(candidate.data)
        file.flush()
        program = Path(file.name)
        try:
            signers = sbsigntool.signers(program)
        except sbsigntool.DamagedSignatureError:
            return SignedProgram(candidate.path, digest, (), False, "", sbat)
        intact = [each for each in signers if sbsigntool.is_intact(program, each)]
    vouched_by = "firmware" if intact else ""
    if trusted and any(sbsigntool.leads_to(each, trusted) for each in intact):
        vouched_by = "shim"
    return SignedProgram(
        candidate.path,
        digest,
        tuple(Signature(each.subject, each.issuer) for each in signers),
        bool(intact) if signers else None,
        vouched_by,
        sbat,
    )
