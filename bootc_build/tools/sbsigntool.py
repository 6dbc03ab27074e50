"""sbverify and sbattach: signatures in EFI programs (Authenticode), as Secure Boot checks them.

``sbverify --cert`` says whether a program is what was signed. Whether the signature leads to that certificate
it says too kindly: it accepts a signature that brings a certificate of its own whose issuer is unknown. So
the chain is openssl's to check.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.process import CommandError, find_program, run

REMEDY = "Install it with: apt-get install sbsigntool openssl"
_SIGNATURE = re.compile(r"^signature \d+$", re.MULTILINE)
_ISSUER = re.compile(r"^image signature issuers:\n - (.*)$", re.MULTILINE)
_CERTIFICATE = re.compile(r"^ - subject: (.*)\n   issuer: +(.*)$", re.MULTILINE)
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)


class DamagedSignatureError(Exception):
    """A program has a signature that cannot be read."""


@dataclass(frozen=True)
class Signer:
    """One signature: common names of the certificate that signed and of its issuer.

    Attributes:
        subject: who signed.
        issuer: who issued the signer's certificate.
        certificates: PEM texts that come with the signature, the signer's own first.
    """

    subject: str
    issuer: str
    certificates: tuple[str, ...]


def require() -> None:
    """Fail early when a program is missing.

    Raises:
        MissingProgramError.
    """
    for program in ("sbverify", "sbattach", "openssl"):
        find_program(program, REMEDY)


def signers(program: Path) -> tuple[Signer, ...]:
    """Who signed an EFI program, signature by signature; empty when nobody did.

    Raises:
        DamagedSignatureError: one cannot be read.
        MissingProgramError.
    """
    said = run(["sbverify", "--list", str(program)], check=False).stdout
    return tuple(
        _signer(program, number, block)
        for number, block in enumerate(_SIGNATURE.split(said)[1:], 1)
    )


def is_intact(program: Path, signer: Signer) -> bool:
    """Whether a program is what its signer signed."""
    with tempfile.NamedTemporaryFile("w", prefix="bootc-build-") as own:
        own.write(signer.certificates[0])
        own.flush()
        done = run(["sbverify", "--cert", own.name, str(program)], check=False)
    return done.status == 0


def leads_to(signer: Signer, certificates: str) -> bool:
    """Whether a signer's certificate was issued by one of the certificates (PEM), or is one of them."""
    with tempfile.TemporaryDirectory(prefix="bootc-build-") as folder:
        own, others, trusted = (Path(folder, name) for name in ("own", "others", "trusted"))
        own.write_text(signer.certificates[0])
        others.write_text("".join(signer.certificates))
        trusted.write_text(certificates)
        # Firmware and shim take no notice of the time, and trust a certificate that is no root.
        argv = ["openssl", "verify", "-partial_chain", "-no_check_time", "-purpose", "any"]
        argv += ["-no-CApath", "-no-CAstore", "-CAfile", str(trusted), "-untrusted", str(others)]
        return run([*argv, str(own)], check=False).status == 0


def split_certificates(text: str) -> tuple[str, ...]:
    """The certificates (PEM) in a text."""
    return tuple(_PEM.findall(text))


def certificate_name(certificate: str) -> str:
    """Common name of a certificate (PEM).

    Raises:
        MissingProgramError, CommandError.
    """
    argv = ["openssl", "x509", "-noout", "-subject", "-nameopt", "compat"]
    return _common_name(run(argv, input_text=certificate).stdout.strip().removeprefix("subject="))


def _signer(program: Path, number: int, block: str) -> Signer:
    found = _ISSUER.search(block)
    issuer = found[1] if found else ""
    # The signer's own certificate is the one that the signature's issuer issued.
    order = [by != issuer for _, by in _CERTIFICATE.findall(block)]
    subjects = [subject for subject, by in _CERTIFICATE.findall(block) if by == issuer]
    with tempfile.TemporaryDirectory(prefix="bootc-build-") as folder:
        signature = Path(folder, "signature")
        argv = ["sbattach", "--signum", str(number), "--detach", str(signature), str(program)]
        listing = ["openssl", "pkcs7", "-inform", "DER", "-in", str(signature), "-print_certs"]
        try:
            run(argv)
            certificates = split_certificates(run(listing).stdout)
        except CommandError as error:
            raise DamagedSignatureError from error
    if not certificates or len(certificates) != len(order):
        raise DamagedSignatureError
    ranked = sorted(zip(order, certificates, strict=True), key=lambda pair: pair[0])
    return Signer(
        _common_name(subjects[0] if subjects else ""),
        _common_name(issuer),
        tuple(certificate for _, certificate in ranked),
    )


def _common_name(name: str) -> str:
    # "/C=US/O=…/CN=…": an unescaped slash may stand in a name, but no "CN=".
    return name.rpartition("CN=")[2].strip() if "CN=" in name else name.strip()
