"""The status document for people; the layout is upstream's, so that eyes and scripts find their place."""

from collections.abc import Iterator

from bootc_build.onhost.host.boot_record import BootHealth, FailedImage, read_notes
from bootc_build.onhost.host.document import BootEntry, Host, ImageStatus, format_time

_SLOTS = {"staged": "  Staged", "booted": "● Booted", "rollback": "  Rollback", "other": "  Other"}
_Row = tuple[str, str]


def human(host: Host, *, verbose: bool = False) -> str:
    """The document as text; ``verbose`` adds what libostree calls things, and more."""
    if host.status.booted is None:
        return "System is not deployed via bootc.\n"
    entries = [
        ("staged", host.status.staged),
        ("booted", host.status.booted),
        ("rollback", host.status.rollback),
        *(("other", entry) for entry in host.status.other_deployments),
    ]
    blocks = [
        "".join(f"{line}\n" for line in _block(slot, entry, host, verbose=verbose))
        for slot, entry in entries
        if entry is not None
    ]
    return "\n".join([*blocks, *(_failed(each) for each in host.status.failed_images)])


def _failed(failed: FailedImage) -> str:
    """An image that was fallen back from; what its boots noted, for those who may read it."""
    heading = "  Failed image"
    rows = [("Digest", failed.digest)]
    if failed.version is not None:
        rows.append(("Version", failed.version))
    rows += [("Fell back", failed.time), ("Reason", failed.reason)]
    lines = [f"{heading}: {failed.image}"]
    lines += [f"{name:>{len(heading)}}: {value}" for name, value in rows]
    lines += [f"{'':>{len(heading)}}  {line}" for line in read_notes(failed.deployment)[1:]]
    return "".join(f"{line}\n" for line in lines)


def _health(health: BootHealth) -> str:
    if health.state == "healthy":
        return "healthy, after falling back to it" if health.fell_back else "healthy"
    text = f"failed: {health.reason}" if health.state == "failed" else "pending"
    if health.tries_left is not None:
        text += f" (on trial, {health.tries_left} more tries)"
    return text


def _block(slot: str, entry: BootEntry, host: Host, *, verbose: bool) -> Iterator[str]:
    if entry.image is None:
        heading = f"{_SLOTS[slot]} ostree"
        yield heading
    else:
        heading = f"{_SLOTS[slot]} image"
        yield f"{heading}: {entry.image.image.display}"
    for name, value in _rows(slot, entry, host, verbose=verbose):
        yield f"{name:>{len(heading)}}: {value}"


def _rows(slot: str, entry: BootEntry, host: Host, *, verbose: bool) -> Iterator[_Row]:
    if entry.image is None:
        yield "Commit", entry.ostree.checksum
    else:
        yield "Digest", f"{entry.image.image_digest} ({entry.image.architecture})"
        yield from _version(entry.image)
    if entry.incompatible:
        yield "Incompatible", "changed by rpm-ostree; `rpm-ostree reset` undoes that"
    if entry.pinned:
        yield "Pinned", "yes"
    if entry.image is not None and entry.cached_update is not None:
        yield from _update(entry.image, entry.cached_update)
    if slot == "booted" and host.status.usr_overlay is not None:
        yield "/usr overlay", host.status.usr_overlay.display
    if slot == "booted" and host.status.boot_health is not None:
        yield "Boot", _health(host.status.boot_health)
    if slot == "booted" and host.status.finalize_failure is not None:
        yield "Not queued", f"the last shutdown failed: {host.status.finalize_failure}"
    if verbose:
        yield from _verbose_rows(slot, entry)


def _version(image: ImageStatus) -> Iterator[_Row]:
    timestamp = None if image.timestamp is None else _seconds(image)
    if image.version is not None:
        yield "Version", f"{image.version} ({timestamp})" if timestamp else image.version
    elif timestamp:
        yield "Timestamp", timestamp


def _update(current: ImageStatus, cached: ImageStatus) -> Iterator[_Row]:
    if cached.image_digest == current.image_digest:
        return
    if cached.version is not None:
        timestamp = "" if cached.timestamp is None else f" ({_seconds(cached)})"
        yield "UpdateVersion", f"{cached.version}{timestamp}"
    else:
        yield "Update", "Available"
    yield "UpdateDigest", cached.image_digest


def _verbose_rows(slot: str, entry: BootEntry) -> Iterator[_Row]:
    yield "StateRoot", entry.ostree.stateroot
    yield "Deploy serial", str(entry.ostree.deploy_serial)
    yield "Staged", "yes" if slot == "staged" else "no"
    if entry.image is not None:
        yield "Commit", entry.ostree.checksum
        signature = entry.image.image.signature
        if isinstance(signature, dict):
            yield "Signature", f"ostree-remote:{signature['ostreeRemote']}"
        elif signature is not None:
            yield "Signature", "container-policy" if signature == "containerPolicy" else "insecure"
    yield "Soft-reboot", "no"
    if slot == "staged":
        yield "Download-only", "yes" if entry.download_only else "no"


def _seconds(image: ImageStatus) -> str:
    return "" if image.timestamp is None else format_time(image.timestamp.replace(microsecond=0))
