"""What an image's root says of its kernel: the document of ``container inspect``, with upstream's fields."""

from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.kargs import kargs_of
from bootc_build.onhost.image_tree import RootTree


@dataclass(frozen=True)
class Inspection:
    """Kernel arguments of kargs.d, the kernel's version, and whether it is a unified kernel image."""

    kargs: tuple[str, ...]
    kernel: str | None
    unified: bool = False

    def to_dict(self) -> dict[str, object]:
        """The document."""
        kernel = None if self.kernel is None else {"version": self.kernel, "unified": self.unified}
        return {"kargs": list(self.kargs), "kernel": kernel}

    def lines(self) -> list[str]:
        """For people."""
        rows = [("Kernel", self.kernel or "<none>")]
        if self.kernel is not None:
            rows.append(("Type", "UKI" if self.unified else "vmlinuz"))
        rows.append(("Kargs", " ".join(self.kargs) or "<none>"))
        width = max(len(name) for name, _value in rows)
        return [f"{name:>{width}}: {value}" for name, value in rows]


def inspect_root(root: Path) -> Inspection:
    """Look at a root directory.

    Raises:
        UserError: it is no directory; a kargs.d file is wrong; there are several kernels.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a directory.", "Name the root of an image with --rootfs.")
    arguments = kargs_of(RootTree(root))
    unified = sorted((root / "boot/EFI/Linux").glob("*.efi"))
    if unified:
        return Inspection(arguments, unified[0].stem, unified=True)
    kernels = sorted(path.parent.name for path in (root / "usr/lib/modules").glob("*/vmlinuz"))
    if len(kernels) > 1:
        raise UserError(
            f"There are {len(kernels)} kernels: {', '.join(kernels)} below /usr/lib/modules.",
            "Leave one.",
        )
    return Inspection(arguments, kernels[0] if kernels else None)
