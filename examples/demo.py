"""The main job on real input, step by step, each step timed and checked: ``./dev demo``.

A Debian base image from packages, an operating system from ``Containerfile.example``, a qcow2 of it, a
machine that boots it; version 2 through a real registry, an upgrade, a reboot, a rollback. The first thing
that is not as promised ends it with status 1.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootc_build.cli.main import main as bootc_build
from bootc_build.onhost.errors import UserError
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from bootc_build.vm.spec import Disk, Firmware, MachineSpec

HERE = Path(__file__).resolve().parent.parent
BASE = "localhost/bootc-build/debian:trixie"
IMAGES = {version: f"localhost/bootc-build/demo:v{version}" for version in ("1", "2")}
TRUST_TEST_REGISTRY = '[[registry]]\nlocation = "{address}"\ninsecure = true\n'


class LieError(UserError):
    """Something was not as promised."""


class Demo:
    """Runs steps, keeps their times, and believes nothing."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.steps: list[tuple[str, float]] = []
        self.checked = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A timed step."""
        print(f"\n==> {title}", flush=True)
        begun = time.monotonic()
        yield
        seconds = time.monotonic() - begun
        self.steps.append((title, seconds))
        print(f"    {seconds:.1f} s", flush=True)

    def check(self, what: str, found: object, expected: object) -> None:
        """Compare, print, and stop at the first lie.

        Raises:
            LieError: they differ.
        """
        if found != expected:
            raise LieError(f"{what}: expected {expected!r}, found {found!r}.")
        self.checked += 1
        print(f"    ok: {what}: {str(found).splitlines()[0] if found else 'none'}", flush=True)

    def summary(self) -> None:
        """What was done, how long it took."""
        print("\nSummary")
        for title, seconds in self.steps:
            print(f"  {seconds:6.1f} s  {title}")
        total = time.monotonic() - self.begun
        print(f"  {total:6.1f} s  in all; {self.checked} checks, every one held")


def run(*arguments: str) -> None:
    """One ``bootc-build`` command, as a user would type it.

    Raises:
        LieError: it failed; it has said why.
    """
    print(f"    $ bootc-build {' '.join(arguments)}", flush=True)
    if bootc_build(arguments) != 0:
        raise LieError("That command failed.")


def build_image(version: str) -> None:
    """The example operating system in one version."""
    containerfile = str(HERE / "Containerfile.example")
    arguments = ("--build-arg", f"BASE={BASE}", "--build-arg", f"VERSION={version}")
    run("image", "-f", containerfile, *arguments, "-t", IMAGES[version], str(HERE))


class Host:
    """The machine, and what its user left on it."""

    def __init__(self, demo: Demo, machine: Machine) -> None:
        self.demo = demo
        self.machine = machine
        self.host_keys = ""

    def is_running(self, version: str, *, rollback: str | None) -> None:
        """Check what is booted, what can be gone back to, and that the system is well."""
        status = self.machine.bootc.status()
        self.demo.check("booted version", status.booted and status.booted.version, version)
        found = status.rollback.version if status.rollback else None
        self.demo.check("version to go back to", found, rollback)
        content = self.machine.succeed("cat /usr/share/hello/version").strip()
        self.demo.check("/usr/share/hello/version", content, version)
        self.machine.wait_for_unit("multi-user.target")
        self.demo.check("failed units", self.machine.failed_units(), [])

    def leave_state(self) -> None:
        """Do what users do: edit /etc, keep files at home; note the ssh host keys."""
        self.machine.succeed("echo 'kept by its owner' > /etc/motd")
        self.machine.succeed("useradd -m alice && echo treasure > /home/alice/notes")
        self.machine.wait_until_succeeds("test -s /etc/ssh/ssh_host_ed25519_key.pub")
        self.host_keys = self._fingerprints()

    def has_its_state(self) -> None:
        """Check that all of it is still there."""
        self.demo.check("/etc/motd", self.machine.read("/etc/motd"), "kept by its owner\n")
        notes = self.machine.succeed("su alice -c 'cat /home/alice/notes'")
        self.demo.check("alice's notes, read by alice", notes, "treasure\n")
        self.demo.check("ssh host keys unchanged", self._fingerprints() == self.host_keys, True)

    def _fingerprints(self) -> str:
        return self.machine.succeed("cat /etc/ssh/ssh_host_*_key.pub | sort")


def show_bootc_status(machine: Machine) -> None:
    """What the administrator sees."""
    for line in machine.succeed("bootc status --format humanreadable").splitlines():
        print(f"    | {line}")


def play(demo: Demo, firmware: Firmware, folder: Path) -> None:
    """The whole chain."""
    with demo.step("A bootable Debian base image, from packages"):
        run("base", "--suite", "trixie", "-t", BASE)
    with demo.step("Version 1 of an operating system, from Containerfile.example"):
        build_image("1")
    with Registry() as registry:
        follow = registry.guest_reference("demo:stable")
        with demo.step("A disk of version 1: the image installs itself"):
            arguments = ("--type", "qcow2", "--output", str(folder), "--target-imgref", follow)
            run("disk", IMAGES["1"], *arguments)
        spec = MachineSpec(disks=(Disk.open(folder / "disk.qcow2"),), firmware=firmware)
        with Machine(spec, folder=folder) as machine:
            transact(demo, Host(demo, machine), registry)


def transact(demo: Demo, host: Host, registry: Registry) -> None:
    """Boot, upgrade, reboot, roll back, reboot; the owner's state stays throughout."""
    machine = host.machine
    with demo.step(
        f"First boot in QEMU ({machine.spec.firmware}, {machine.acceleration.accelerator})"
    ):
        machine.boot()
        show_bootc_status(machine)
        host.is_running("1", rollback=None)
    with demo.step("The owner edits /etc, keeps a file at home; host keys are noted"):
        host.leave_state()
        trust = TRUST_TEST_REGISTRY.format(address=registry.guest_address)
        machine.write("/etc/containers/registries.conf.d/demo.conf", trust)
    with demo.step("Version 2 is built and pushed to a registry"):
        build_image("2")
        registry.push(IMAGES["2"], "demo:stable")
    with demo.step("bootc upgrade"):
        print("    " + "\n    ".join(machine.bootc.upgrade().splitlines()[-3:]))
        demo.check("staged version", machine.bootc.staged.version, "2")
        demo.check("still booted", machine.bootc.booted.version, "1")
    with demo.step("Reboot into version 2"):
        machine.reboot()
        host.is_running("2", rollback="1")
        host.has_its_state()
    with demo.step("bootc rollback and reboot"):
        machine.bootc.rollback()
        machine.reboot()
        show_bootc_status(machine)
        host.is_running("1", rollback="2")
        host.has_its_state()
    with demo.step("Shutdown"):
        machine.shutdown()


def main() -> int:
    """Run the demo; 0 when everything was as promised."""
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    parser.add_argument("--firmware", type=Firmware, choices=tuple(Firmware), default=Firmware.UEFI)
    firmware = parser.parse_args().firmware
    scratch = Path("/var/tmp") if "TMPDIR" not in os.environ else Path(tempfile.gettempdir())
    demo = Demo()
    try:
        with tempfile.TemporaryDirectory(prefix="bootc-build-demo-", dir=scratch) as folder:
            play(demo, firmware, Path(folder))
    except UserError as error:
        print(f"\nNOT as promised: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    demo.summary()
    return 0


if __name__ == "__main__":
    sys.exit(main())
