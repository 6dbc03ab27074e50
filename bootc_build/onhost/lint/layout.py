"""Lints on the top of the tree: what must be there, what must not be."""

from collections.abc import Iterator

from bootc_build.onhost.lint.model import Problem
from bootc_build.onhost.lint.root import Root

_API_DIRECTORIES = ("dev", "proc", "run", "sys", "tmp", "var")
# Directories at the top that a host mounts over, that the import handles, or that the base makes.
_KNOWN_AT_TOP = {
    *_API_DIRECTORIES,
    *("bin", "sbin", "lib", "lib32", "lib64", "libx32"),
    *("afs", "boot", "efi", "etc", "ostree", "sysroot", "usr"),
}
# Directories at the top that people write to: read-only when they are real ones.
_STATE_AT_TOP = {"home": "home", "mnt": "mnt", "root": "roothome", "srv": "srv"}
_REFERENCE_ROOT = "/usr/share/doc/bootc/baseimage/base"
_OSTREE_LINK = "sysroot/ostree"
_BOOTC_PATHS = ("/usr/bin/bootc", "/usr/sbin/bootc", "/usr/local/bin/bootc")


def api_base_directories(root: Root) -> Iterator[Problem]:
    """Find missing mount points for the kernel's file systems, and a missing /var."""
    for name in _API_DIRECTORIES:
        path = f"/{name}"
        if root.is_real_dir(path):
            continue
        what = "is missing" if root.lstat(path) is None else "is not a directory"
        yield Problem(
            f"{path} {what}; nothing can be mounted there at boot.",
            f"Make it a directory: RUN rm -f {path} && mkdir {path}",
            [path],
        )


def baseimage_root(root: Root) -> Iterator[Problem]:
    """Find a missing /sysroot or /ostree, also in the reference tree that some bases document."""
    for top in ("", _REFERENCE_ROOT):
        if top and not root.is_dir(top):
            continue
        sysroot, ostree = f"{top}/sysroot", f"{top}/ostree"
        if not root.is_real_dir(sysroot):
            yield Problem(
                f"{sysroot} is not a directory; the physical root is mounted there at boot.",
                f"Make it one: RUN mkdir -p {sysroot}",
                [sysroot],
            )
        if root.link(ostree) != _OSTREE_LINK:
            yield Problem(
                f"{ostree} is not a symbolic link to {_OSTREE_LINK}; libostree looks for its repository there.",
                f"Make it one: RUN ln -sfnT {_OSTREE_LINK} {ostree}",
                [ostree],
            )


def bootc_binary(root: Root) -> Iterator[Problem]:
    """Find an image without ``bootc``."""
    if not any(root.is_file(path) for path in _BOOTC_PATHS):
        yield Problem(
            "The image has no bootc: it can neither install itself to a disk nor upgrade afterwards.",
            "Build FROM a base image that has it: bootc-build base -t localhost/bootc-build/debian:trixie",
            ["/usr/bin/bootc"],
        )


def etc_usretc(root: Root) -> Iterator[Problem]:
    """Find /usr/etc beside /etc, and a root without either."""
    if not root.is_real_dir("/etc") and not root.is_real_dir("/usr/etc"):
        what = "is missing" if root.lstat("/etc") is None else "is not a directory"
        yield Problem(
            f"/etc {what}; what boots would have no configuration.",
            "Build FROM a bootable base image, and leave its /etc a directory.",
            ["/etc"],
        )
        return
    if root.lstat("/etc") is not None and root.lstat("/usr/etc") is not None:
        yield Problem(
            "/usr/etc is there beside /etc; the import makes it from /etc, two of them cannot be merged.",
            "Keep configuration in /etc alone: RUN cp -a /usr/etc/. /etc/ && rm -rf /usr/etc",
            ["/usr/etc"],
        )


def var_run(root: Root) -> Iterator[Problem]:
    """Find /var/run as anything but a link."""
    if root.lstat("/var/run") is not None and root.link("/var/run") is None:
        yield Problem(
            "/var/run is not a symbolic link; what runs would not find its sockets and locks in /run.",
            "Make it the link that it has to be: RUN rm -rf /var/run && ln -s ../run /var/run",
            ["/var/run"],
        )


def toplevel(root: Root) -> Iterator[Problem]:
    """Find real directories with content at the top that are neither system directories nor links."""
    for name in root.names("/"):
        path = f"/{name}"
        if name in _KNOWN_AT_TOP or not root.is_real_dir(path):
            continue
        content = root.names(path)
        if not content:
            continue
        yield Problem(
            f"{path} is a real directory with content; it is read-only on the host and replaced by every upgrade.",
            _toplevel_remedy(name),
            [path],
        )


def _toplevel_remedy(name: str) -> str:
    if name in _STATE_AT_TOP:
        return (
            f"Keep what people write under /var and the rest under /usr, with /{name} a link: "
            f"RUN rm -rf /{name} && ln -s var/{_STATE_AT_TOP[name]} /{name}"
        )
    return f"Move it under /usr and leave a link: RUN mv /{name} /usr/lib/{name} && ln -s usr/lib/{name} /{name}"
