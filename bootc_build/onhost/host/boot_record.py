"""What is remembered of boots: which images failed and why, and how this boot went.

- ``/var/lib/bootc/failed-images.json``: images that were fallen back from. It survives upgrades.
- ``/var/lib/bootc/boot-failures.d/DEPLOYMENT``: what a failing boot noted of itself, for root alone: the reason in the
  first line, then what the journal had.
- ``/run/bootc/boot-complete``, ``/run/bootc/boot-failed``: how this boot went. ``/run/bootc/settled``: the boot menu
  knows that it was complete.
- ``/var/lib/bootc/finalize-failure``: why the last system that was queued could not be made the next one.
- ``bootc.trial=``, ``bootc.fellback=`` on the kernel command line: what the boot menu did.

Read by ``bootc status``, so nothing here imports what takes time.
"""

import os
from typing import Final

from bootc_build.onhost.record import record

Document = dict[str, object]
STATE: Final = "var/lib/bootc"
_FAILED_IMAGES: Final = "failed-images.json"
_NOTES: Final = "boot-failures.d"
_FINALIZE_FAILURE: Final = "finalize-failure"
_MOST_FAILED: Final = 20
_MOST_DETAILS: Final = 40
# What a failure is put down to, in the words of the boot menu.
REASONS: Final = {
    "tries": "It did not come up, and left no word: a kernel panic, a hang, or a power cut",
    "kernel": "The boot loader could not load its kernel or initramfs",
}


@record
class FailedImage:
    """An image that was fallen back from.

    Attributes:
        digest: of its manifest.
        config_digest: of its configuration; the same image compressed anew is no other.
        image: the reference that its deployment tracked.
        version: its label.
        deployment: ``CHECKSUM.SERIAL``.
        reason: one sentence.
        time: RFC 3339.
    """

    digest: str
    config_digest: str
    image: str
    version: str | None
    deployment: str
    reason: str
    time: str

    def to_dict(self) -> Document:
        """The form in the record and in the status document."""
        return {
            "image": self.image,
            "version": self.version,
            "imageDigest": self.digest,
            "configDigest": self.config_digest,
            "deployment": self.deployment,
            "reason": self.reason,
            "time": self.time,
        }


def read_failed(root: str = "/") -> tuple[FailedImage, ...]:
    """The images that are remembered, the latest first; none where the record is unreadable."""
    path = os.path.join(root, STATE, _FAILED_IMAGES)
    if not os.path.exists(path):
        return ()
    import json  # noqa: PLC0415 - seldom needed

    try:
        entries = json.loads(_read(path))["images"]
        return tuple(
            FailedImage(
                digest=str(each["imageDigest"]),
                config_digest=str(each.get("configDigest", "")),
                image=str(each.get("image", "")),
                version=None if each.get("version") is None else str(each["version"]),
                deployment=str(each.get("deployment", "")),
                reason=str(each.get("reason", "")),
                time=str(each.get("time", "")),
            )
            for each in entries
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def write_failed(failed: tuple[FailedImage, ...], root: str = "/") -> None:
    """Replace the record, complete or not at all.

    Raises:
        OSError: it cannot be written.
    """
    import json  # noqa: PLC0415 - likewise

    folder = os.path.join(root, STATE)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    path = os.path.join(folder, _FAILED_IMAGES)
    new = f"{path}.new"
    with open(new, "w", encoding="utf-8") as file:
        json.dump({"images": [each.to_dict() for each in failed[:_MOST_FAILED]]}, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remember(failed: FailedImage, root: str = "/") -> None:
    """Put an image on the record, in place of what was known of it."""
    others = tuple(each for each in read_failed(root) if each.digest != failed.digest)
    write_failed((failed, *others), root)


def forget(digest: str, root: str = "/") -> None:
    """Take an image from the record."""
    known = read_failed(root)
    left = tuple(each for each in known if each.digest != digest)
    if left != known:
        write_failed(left, root)


def find_failed(digest: str, config_digest: str, root: str = "/") -> FailedImage | None:
    """What is remembered of an image."""
    for each in read_failed(root):
        if digest == each.digest or (config_digest and config_digest == each.config_digest):
            return each
    return None


def read_notes(deployment: str, root: str = "/") -> tuple[str, ...]:
    """What a failing boot of a deployment noted: the reason, then lines of the journal. For root alone."""
    try:
        text = _read(os.path.join(root, STATE, _NOTES, deployment))
    except OSError:
        return ()
    return tuple(text.splitlines()[:_MOST_DETAILS])


def forget_notes(deployment: str, root: str = "/") -> None:
    """Remove the notes of a deployment."""
    path = os.path.join(root, STATE, _NOTES, deployment)
    if os.path.exists(path):
        os.unlink(path)


@record
class BootHealth:
    """How this boot went.

    Attributes:
        state: ``healthy``, ``pending`` or ``failed``.
        tries_left: while the deployment is on trial: how often it is still tried after this.
        reason: of a failed boot.
        fell_back: the boot menu fell back to this deployment.
    """

    state: str
    tries_left: int | None
    reason: str | None
    fell_back: bool

    def to_dict(self) -> Document:
        """The form in the status document."""
        return {
            "state": self.state,
            "triesLeft": self.tries_left,
            "reason": self.reason,
            "fellBack": self.fell_back,
        }


def on_trial(command_line: str) -> bool:
    """Whether the boot menu counted this boot, by the kernel command line."""
    return any(word.startswith("bootc.trial=") for word in command_line.split())


def is_complete(root: str = "/") -> bool:
    """Whether this boot was found complete."""
    return os.path.exists(os.path.join(root, "run/bootc/boot-complete"))


def is_settled(root: str = "/") -> bool:
    """Whether the boot menu knows that this boot was complete; one that it does not count is settled from the start."""
    return not on_trial(read_command_line(root)) or os.path.exists(
        os.path.join(root, "run/bootc/settled")
    )


def has_failed(root: str = "/") -> bool:
    """Whether this boot failed."""
    return os.path.exists(os.path.join(root, "run/bootc/boot-failed"))


def read_command_line(root: str = "/") -> str:
    """The kernel command line of this boot."""
    try:
        return _read(os.path.join(root, "proc/cmdline"))
    except OSError:
        return ""


def read_boot_health(root: str = "/") -> BootHealth | None:
    """How this boot went; None where the image has nothing that would say so."""
    if not os.path.exists(os.path.join(root, "usr/libexec/bootc/boot-complete")):
        return None
    words = read_command_line(root).split()
    left = next((word[12:] for word in words if word.startswith("bootc.trial=")), "")
    fell_back = any(word.startswith("bootc.fellback=") for word in words)
    complete = is_complete(root)
    reason = None
    if not complete:
        try:
            reason = _read(os.path.join(root, "run/bootc/boot-failed")).strip()
        except OSError:
            reason = None
    state = "healthy" if complete else "failed" if reason is not None else "pending"
    tries = int(left) if left.isdigit() and not complete else None
    return BootHealth(state, tries, reason, fell_back)


def finalize_failure(root: str = "/") -> str | None:
    """Why the system that was queued last could not be made the next one; None where it could."""
    # libostree's own note goes with the next boot; a unit keeps it.
    for path in ("boot/ostree/finalize-failure.stamp", f"{STATE}/{_FINALIZE_FAILURE}"):
        try:
            return _read(os.path.join(root, path)).strip() or "unknown"
        except OSError:
            continue
    return None


def forget_finalize_failure(root: str = "/") -> None:
    """Another system was queued: what became of the last one is history."""
    path = os.path.join(root, STATE, _FINALIZE_FAILURE)
    if os.path.exists(path):
        os.unlink(path)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
