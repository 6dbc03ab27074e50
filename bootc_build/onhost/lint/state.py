"""Lints on state that does not belong in an image: logs, leftovers, one machine's identity."""

import posixpath
import re
from collections.abc import Iterator

from bootc_build.onhost.lint.model import Problem
from bootc_build.onhost.lint.root import Entry, Root

_INJECTED = ("/etc/hostname", "/etc/resolv.conf")
# What container runtimes leave in /run: a mount point for DNS, and their own mark.
_RUNTIME_FILES = ("/run/systemd/resolve/stub-resolv.conf", "/run/.containerenv")
_TMPFILES_FOLDERS = ("/usr/lib/tmpfiles.d", "/etc/tmpfiles.d")
# Types of tmpfiles.d lines that make the path; "C" makes what is below it too.
_MAKES = frozenset("fFdDvqQpLcbC")
_HEX = re.compile(r"\\x([0-9a-fA-F]{2})")


def buildah_injected(root: Root) -> Iterator[Problem]:
    """Find empty files that a container build put over the image's own."""
    for path in _INJECTED:
        status = root.lstat(path)
        if status is not None and root.link(path) is None and status.st_size == 0:
            yield Problem(
                f"{path} is an empty file, as container builds leave it behind; the import drops it.",
                f"Nothing has to be done; to ship one, write it without a RUN step: COPY … {path}",
                [path],
            )


def var_log(root: Root) -> Iterator[Problem]:
    """Find log files with content."""
    found = []
    for entry in root.below("/var/log"):
        if entry.kind == "f":
            status = root.status_of(entry)
            if status is not None and status.st_size:
                found.append(entry.path)
    if found:
        yield Problem(
            "Log files with content: they tell about the build machine and make every build different.",
            "Remove them in the step that writes them: RUN … && find /var/log -type f -delete",
            found,
        )


def nonempty_run_tmp(root: Root) -> Iterator[Problem]:
    """Find content in /run and /tmp."""
    mounted = {entry.path for entry in root.below("/run", "/tmp") if entry.mounted}  # noqa: S108
    ignored = {*_RUNTIME_FILES, *mounted}
    found = {entry.path for entry in root.below("/run", "/tmp")} - ignored  # noqa: S108 - of the image
    # Directories that only lead to what a runtime mounted are the runtime's as well.
    for path in ignored:
        parent = posixpath.dirname(path)
        while parent in found and not any(other.startswith(f"{parent}/") for other in found):
            found.discard(parent)
            parent = posixpath.dirname(parent)
    if found:
        yield Problem(
            "/run and /tmp have content; both are empty file systems in memory on the host.",
            "Remove it in the step that leaves it: RUN … && rm -rf /tmp/* /run/*",
            _topmost(found),
        )


def machine_id(root: Root) -> Iterator[Problem]:
    """Find a machine id, which every host of this image would share."""
    content = root.text("/etc/machine-id").strip()
    if content not in ("", "uninitialized"):
        yield Problem(
            "/etc/machine-id is set: every host of this image would have the same identity.",
            "Empty it, so that each host makes its own at first boot: RUN truncate -s 0 /etc/machine-id",
            ["/etc/machine-id"],
        )


def ssh_host_keys(root: Root) -> Iterator[Problem]:
    """Find SSH host keys, which everybody who has the image would have."""
    keys = [
        f"/etc/ssh/{name}"
        for name in root.names("/etc/ssh")
        if name.startswith("ssh_host_") and name.endswith("_key")
    ]
    if keys:
        yield Problem(
            "Private SSH host keys: everybody who has the image can pose as the host.",
            "Remove them, the host makes its own: RUN … && rm -f /etc/ssh/ssh_host_*",
            keys,
        )


def var_tmpfiles(root: Root) -> Iterator[Problem]:
    """Find content of /var that no tmpfiles.d line would make on a host that is upgraded to it."""
    made, copied = _tmpfiles(root)
    missing: list[str] = []
    files: list[str] = []
    skipped: list[str] = []
    for entry in root.below("/var"):
        if entry.mounted or entry.path.startswith(tuple(skipped)):
            continue
        if entry.path in copied:
            skipped.append(f"{entry.path}/")
            continue
        if entry.path in made or _is_left_to_others(entry):
            continue
        (missing if entry.kind in "dl" else files).append(entry.path)
        skipped.append(f"{entry.path}/")
    if missing:
        yield Problem(
            "Directories or links in /var without a tmpfiles.d line: a host gets them at its first "
            "installation only, never by an upgrade.",
            f"Write one line each to /usr/lib/tmpfiles.d/NAME.conf, for example: d {missing[0]} 0755 root root -",
            missing,
        )
    if files:
        yield Problem(
            "Files in /var: a host gets them at its first installation only, never by an upgrade.",
            _files_remedy(files),
            files,
        )


def _files_remedy(files: list[str]) -> str:
    if any(path.startswith(("/var/lib/apt/lists/", "/var/cache/apt/")) for path in files):
        return (
            "End the step that runs apt-get with: && apt-get clean && rm -rf /var/lib/apt/lists/*"
        )
    return (
        "Remove caches in the step that fills them; keep the rest below /usr and have tmpfiles.d "
        f"copy it: C {files[0]} - - - - /usr/share/factory{files[0]}"
    )


def _is_left_to_others(entry: Entry) -> bool:
    # /var/run has a lint of its own, and systemd makes these in any case; var-log tells of logs.
    if entry.path in {"/var/run", "/var/lock", "/var/tmp"}:  # noqa: S108 - of the image
        return True
    # What every run of apt leaves, and makes again.
    return entry.kind == "f" and (
        entry.path.startswith("/var/log/")
        or entry.path == "/var/cache/ldconfig/aux-cache"
        or posixpath.basename(entry.path) == "lock"
    )


def _tmpfiles(root: Root) -> tuple[set[str], set[str]]:
    """Paths that tmpfiles.d makes, and those of them that it copies with all that is below."""
    # A file in /etc replaces the one of that name in /usr.
    sources = {
        name: f"{folder}/{name}"
        for folder in _TMPFILES_FOLDERS
        for name in root.names(folder)
        if name.endswith(".conf")
    }
    made: set[str] = set()
    copied: set[str] = set()
    for source in sources.values():
        for line in root.text(source).splitlines():
            kind, path = _tmpfiles_line(line)
            if kind[:1] not in _MAKES or not path.startswith("/"):
                continue
            place = root.resolve_parent(path)
            if place is None:
                continue
            made.add(place)
            if kind.startswith("C"):
                copied.add(place)
            # tmpfiles makes the directories above as well.
            made.update(_parents(place))
    return made, copied


def _parents(path: str) -> Iterator[str]:
    while (path := posixpath.dirname(path)) != "/":
        yield path


def _tmpfiles_line(line: str) -> tuple[str, str]:
    """Type and path of one line; empty for what is no such line."""
    kind, _, rest = line.strip().partition(" ")
    if not kind or kind.startswith("#"):
        return "", ""
    rest = rest.strip()
    quoted = rest.startswith('"')
    path = rest[1:].partition('"')[0] if quoted else (rest.split(None, 1) or [""])[0]
    path = _HEX.sub(lambda match: chr(int(match[1], 16)), path).replace("%%", "%")
    return kind, path.rstrip("/") or "/"


def _topmost(paths: set[str]) -> list[str]:
    """Only the paths that have no parent among them."""
    return [path for path in paths if not any(parent in paths for parent in _parents(path))]
