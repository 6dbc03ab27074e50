"""Build a bootable base image from distribution packages, straight into local container storage."""

import time
from pathlib import Path

from bootc_build.image import base_tree
from bootc_build.image.base_plan import BasePlan
from bootc_build.onhost.progress import Progress
from bootc_build.tools import mmdebstrap
from bootc_build.tools.apt_sources import archive_keyring, inherited_options
from bootc_build.tools.buildah import WorkingContainer, working_container
from bootc_build.tools.cache import cache_folder

# Kind of units -> our preset of them.
_PRESETS = {
    "system": "usr/lib/systemd/system-preset/10-bootc.preset",
    "user": "usr/lib/systemd/user-preset/10-bootc.preset",
}
_MASKED = (
    # It unpacks the initramfs again at every shutdown, for storage that we do not set up.
    "dracut-shutdown.service",
    # Two processes more at boot and at shutdown, for networkd to keep what it has learned of leases.
    "systemd-networkd-persistent-storage.service",
)
_DEBCONF_SELECTIONS = "/usr/share/bootc/debconf-selections"
_IMAGE_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def package_cache() -> Path:
    """Where downloaded packages are kept between builds."""
    return cache_folder() / "apt"


def build_base(plan: BasePlan, progress: Progress, *, epoch: int | None = None) -> str:
    """Build the image that the plan describes and return its id.

    The same packages give the same image: every file gets the time ``epoch``, or without one that of the
    newest file in the packages.

    Args:
        plan: what to build.
        progress: who listens.
        epoch: seconds since 1970.

    Raises:
        UserError: a missing program, an archive that cannot be used, a full disk.
    """
    mmdebstrap.require()
    keyring = archive_keyring()
    with working_container("scratch") as container:
        root = container.mount()
        begun = time.time()
        mmdebstrap.build_tree(
            root,
            suite=plan.suite,
            architecture=plan.architecture,
            sources=[line for source in plan.sources for line in source.one_line_entries()],
            packages=plan.packages,
            keyring=keyring,
            seed=base_tree.seed_tree,
            cache=package_cache() / plan.suite,
            options=["force-unsafe-io"],  # a tree that a crash leaves behind is thrown away
            apt_options=inherited_options(),
            epoch=epoch or 0,
            on_phase=progress.step,
            on_line=progress.detail,
        )
        if epoch is None:
            epoch = base_tree.newest_packaged_time(root, begun)
        _finish(container, root, plan, epoch, progress)
        progress.step(f"Writing the image {plan.tag}")
        # Without a line of history for its layer, buildah refuses to build further layers on it.
        made_by = ("--arch", plan.architecture, "--created-by", "bootc-build base")
        options = ("--cmd", "/sbin/init", *made_by)
        container.configure(labels=_labels(root, plan, epoch), options=options)
        return container.commit(plan.tag, timestamp=epoch)


def _finish(
    container: WorkingContainer, root: Path, plan: BasePlan, epoch: int, progress: Progress
) -> None:
    progress.step("Laying out the tree")
    base_tree.copy_image_root(root)
    base_tree.prune_excluded(root)
    base_tree.add_missing_units(root)
    base_tree.move_package_state(root)
    base_tree.link_top_level(root)
    keyring = _IMAGE_KEYRING if (root / _IMAGE_KEYRING[1:]).exists() else ""
    base_tree.write_sources(root, "\n".join(source.deb822(keyring) for source in plan.sources))
    for convert, made in (("pwconv", "shadow"), ("grpconv", "gshadow")):
        if not (
            root / "etc" / made
        ).exists():  # newer suites leave it to the first user who is added
            container.run([convert])
    base_tree.scrub(root, epoch)
    extra = base_tree.cover_users(root)
    for user in extra.users:
        progress.detail(f"user made by a package: {user.name} {user.uid}")
    container.run(["debconf-set-selections", _DEBCONF_SELECTIONS])
    progress.step("Enabling services")
    offline = {"SYSTEMD_OFFLINE": "1"}
    container.run(["systemctl", "preset", *_preset_units(root, "system")], env=offline)
    container.run(["systemctl", "--global", "preset", *_preset_units(root, "user")], env=offline)
    container.run(["systemctl", "mask", *_MASKED], env=offline)
    progress.step("Building the initramfs and compiling Python files")
    container.run(
        ["/usr/libexec/bootc/image-refresh"],
        env={"SOURCE_DATE_EPOCH": str(epoch)},
        on_line=progress.detail,
    )
    base_tree.scrub(root, epoch)


def _preset_units(root: Path, kind: str) -> list[str]:
    """The units of a kind ("system", "user") that our preset names, as far as this suite has them."""
    lines = (line.split() for line in (root / _PRESETS[kind]).read_text().splitlines())
    named = [words[1] for words in lines if len(words) > 1 and words[0] in {"enable", "disable"}]
    return [unit for unit in named if (root / "usr/lib/systemd" / kind / unit).exists()]


def _labels(root: Path, plan: BasePlan, epoch: int) -> dict[str, str]:
    release = (root / "etc/debian_version").read_text().strip()
    # Testing and unstable call themselves "forky/sid".
    number = release if release[:1].isdigit() else plan.suite
    day = time.strftime("%Y%m%d", time.gmtime(epoch))
    return {
        "containers.bootc": "1",
        "ostree.bootable": "1",
        "org.opencontainers.image.version": f"{number}.{day}",
    }
