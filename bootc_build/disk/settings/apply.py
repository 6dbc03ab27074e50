"""Set on an installed system what its configuration says: what was planned is written, in its order."""

from pathlib import Path

from bootc_build.disk.settings.account_files import with_passwords
from bootc_build.disk.settings.deployment import Deployment, MachineFile
from bootc_build.disk.settings.homes import make_way
from bootc_build.disk.settings.plan import SettingsPlan
from bootc_build.disk.settings.system import fstab, system_files
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.progress import Progress
from bootc_build.tools.buildah import Volume, WorkingContainer

_IN_IMAGE = "/run/bootc-build/deployment"


def apply_settings(
    container: WorkingContainer, target: Path, plan: SettingsPlan, progress: Progress
) -> None:
    """Write what the configuration says into an installed tree.

    Args:
        container: a working container of the image, whose programs are used.
        target: what the image's installer laid down.
        plan: what is written; without problems.
        progress: hears of the step.

    Raises:
        UserError: there is nothing installed.
        CommandError: a program of the image failed.
    """
    settings = plan.settings
    if settings.is_empty:
        return
    deployment = Deployment.find(target)
    if deployment is None:
        raise UserError("The image's installer left no deployment to be configured.")
    progress.step("Setting what the configuration says")
    for file in (*plan.accounts.files, *system_files(settings.wanted)):
        deployment.write(file)
    _set_passwords(deployment, plan)
    if settings.wanted.timezone is not None:
        deployment.link("/etc/localtime", f"../usr/share/zoneinfo/{settings.wanted.timezone}")
    _set_nodes(deployment, plan)
    for verb, unit in plan.units:
        container.run(
            ["systemctl", "--quiet", f"--root={_IN_IMAGE}", verb, unit],
            volumes=(Volume(deployment.root, _IN_IMAGE),),
        )
    existing = deployment.read("/etc/fstab")
    table = fstab(existing, settings.identity, settings.layout)
    if table != existing:
        deployment.write(MachineFile("/etc/fstab", table))


def _set_passwords(deployment: Deployment, plan: SettingsPlan) -> None:
    accounts = plan.accounts
    if accounts.passwords:
        shadow = with_passwords(deployment.read("/etc/shadow"), accounts.passwords)
        gid = accounts.gids.get("shadow", 0)
        deployment.write(MachineFile("/etc/shadow", shadow, mode=0o640, gid=gid))


def _set_nodes(deployment: Deployment, plan: SettingsPlan) -> None:
    homes = plan.accounts.homes
    for folder in plan.folders:
        make_way(deployment, folder.path, homes)
        deployment.make_folder(
            folder.path, mode=folder.mode, uid=folder.uid, gid=folder.gid, parents=folder.parents
        )
    for file in plan.files:
        make_way(deployment, file.path, homes)
        deployment.write(file)
