"""openssl: a certificate authority of one's own and server certificates, for registries on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.process import find_program, run

# Dates as ASN.1 writes them. Wide, because a machine under test may believe in another year.
_BEGINNING = "20200101000000Z"
_END = "20491231000000Z"
_LONG_AGO = "20200201000000Z"

_SETTINGS = """
[req]
distinguished_name = name
prompt = no
[name]
commonName = {name}
[ca]
default_ca = issuing
[issuing]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any_name
[any_name]
commonName = supplied
[extensions]
{extensions}
"""
_AUTHORITY = "basicConstraints = critical,CA:true\nkeyUsage = critical,keyCertSign"
_SERVER = "basicConstraints = critical,CA:false\nextendedKeyUsage = serverAuth"


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, both PEM files."""

    path: Path
    key: Path


def make_authority(folder: Path, name: str) -> Certificate:
    """A certificate authority, made in a folder.

    Raises:
        MissingProgramError, CommandError.
    """
    return _issue(folder, "authority", name, _AUTHORITY, until=_END, issuer=None)


def issue_server_certificate(
    authority: Certificate,
    folder: Path,
    label: str,
    *,
    addresses: Sequence[str],
    names: Sequence[str],
    expired: bool = False,
) -> Certificate:
    """A server's certificate, made in a folder.

    Args:
        authority: who issues it.
        folder: where to.
        label: name of the files, without suffix.
        addresses: IP addresses that it holds for.
        names: DNS names that it holds for.
        expired: it was valid once, and is no more.

    Raises:
        MissingProgramError, CommandError.
    """
    subjects = [f"IP:{address}" for address in addresses] + [f"DNS:{name}" for name in names]
    extensions = f"{_SERVER}\nsubjectAltName = {','.join(subjects)}"
    until = _LONG_AGO if expired else _END
    return _issue(folder, label, subjects[0], extensions, until=until, issuer=authority)


def _issue(
    folder: Path, label: str, name: str, extensions: str, *, until: str, issuer: Certificate | None
) -> Certificate:
    find_program("openssl")
    settings, request = folder / f"{label}.conf", folder / f"{label}.csr"
    made = Certificate(folder / f"{label}.crt", folder / f"{label}.key")
    settings.write_text(_SETTINGS.format(name=name, folder=folder, extensions=extensions))
    (folder / "index.txt").touch()
    with_settings = ("-config", str(settings))
    run(
        [
            *("openssl", "req", "-new", *with_settings, "-out", str(request)),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-keyout", str(made.key)),
        ],
        timeout=60,
    )
    by = (
        ("-selfsign", "-keyfile", str(made.key))
        if issuer is None
        else ("-cert", str(issuer.path), "-keyfile", str(issuer.key))
    )
    run(
        [
            *("openssl", "ca", "-batch", "-notext", *with_settings, *by),
            *("-startdate", _BEGINNING, "-enddate", until, "-extensions", "extensions"),
            *("-in", str(request), "-out", str(made.path)),
        ],
        timeout=60,
    )
    return made


def hash_password(password: str, salt: str) -> str:
    """A password as /etc/shadow has it: crypt(5)'s $6$, salted.

    Args:
        password: one line.
        salt: up to 16 letters and digits.

    Raises:
        MissingProgramError, CommandError.
    """
    return run(
        ["openssl", "passwd", "-6", "-salt", salt, "-stdin"], input_text=f"{password}\n"
    ).stdout.strip()
