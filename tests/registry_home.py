"""What programs on this machine need to use a test's registry, in a home folder of their own."""

import os
import subprocess
from pathlib import Path

from bootc_build.vm.registry import Registry


def write_home(registry: Registry, home: Path, *, trust: bool = True) -> Path:
    """Tell skopeo, buildah and bootc about a registry: where it is, and (unless not trusted) its authority."""
    settings = home / ".config/containers"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "registries.conf").write_text(registry.configuration(registry.address))
    if trust and registry.has_tls:
        certificates = settings / "certs.d" / registry.address
        certificates.mkdir(parents=True)
        (certificates / "ca.crt").write_bytes(registry.authority.read_bytes())
    return home


def in_home(home: Path) -> dict[str, str]:
    """The environment of a program that lives there."""
    kept = {name: value for name, value in os.environ.items() if name != "XDG_CONFIG_HOME"}
    return {**kept, "HOME": str(home)}


def skopeo(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["skopeo", "--insecure-policy", *arguments]
    return subprocess.run(
        command, env=in_home(home), capture_output=True, text=True, timeout=120, check=False
    )
