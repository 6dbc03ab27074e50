"""What a state of the disk is worth: the one judgement of all crash points.

A state is good when every way into it, the boot loader's and that of the kernel and libostree after it, leads to the old
system or to the new one, whole; when the files of its /etc are each as before or as after; and when what has to stay is
there.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from bootc_build.testing.crash_points.boot_view import BootView
from bootc_build.testing.crash_points.root_view import Deployment, RootView, summary


@dataclass(frozen=True)
class Observation:
    """Everything that was seen of one state.

    Args:
        loader: /boot as GRUB reads it, its journal not replayed.
        boot: /boot as it is mounted.
        root: the root file system as it is mounted.
        damage: what a check of the file systems cannot mend by itself.
    """

    loader: BootView
    boot: BootView
    root: RootView
    damage: tuple[str, ...] = ()

    @property
    def started(self) -> tuple[Deployment | None, ...]:
        """The deployments that GRUB may start by itself."""
        return tuple(self.root.links.get(one.deployment_link or "") for one in self.loader.started)

    @property
    def signature(self) -> str:
        """Equal for states that nobody can tell apart when they boot: menus, links, deployments, /etc."""
        facts = [
            asdict(self.loader),
            asdict(self.boot),
            {link: _facts(one) for link, one in sorted(self.root.links.items())},
            sorted(self.root.names),
            sorted(self.root.refs.items()),
            sorted(self.root.kept.items()),
            self.damage,
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _facts(deployment: Deployment | None) -> object:
    if deployment is None:
        return None
    return [deployment.commit, deployment.problems, sorted((deployment.etc or {}).items())]


@dataclass(frozen=True)
class Reference:
    """What is allowed: the states before and after the transaction.

    Args:
        before: it.
        after: it.
    """

    before: Observation
    after: Observation

    @property
    def commits(self) -> dict[str, str]:
        """Commit -> "old" or "new" of the systems that may be started."""
        named = {one.commit: "new" for one in self.after.started if one}
        return named | {one.commit: "old" for one in self.before.started if one}

    def etc_versions(self) -> Iterable[tuple[str, Mapping[str, str]]]:
        """Commit and /etc of each deployment before and after."""
        for observation in (self.before, self.after):
            for one in observation.root.links.values():
                if one is not None and one.etc is not None:
                    yield one.commit, one.etc


@dataclass(frozen=True)
class Verdict:
    """The judgement.

    Args:
        boots: "old", "new" or "nothing".
        unbootable: why the machine would not start a whole system by itself.
        violations: what else is wrong.
        commit: of the system that it boots.
    """

    boots: str
    unbootable: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()
    commit: str = ""


def judge(seen: Observation, reference: Reference) -> Verdict:
    """Judge a state."""
    unbootable = [*seen.loader.problems, *seen.damage]
    commits = reference.commits
    boots = []
    for one in seen.started:
        if one is None:
            unbootable.append("the entry that GRUB starts leads to no deployment")
        elif one.problems:
            unbootable.append(f"deployment {one.commit[:12]}: {summary(one.problems)}")
        elif one.commit not in commits:
            unbootable.append(f"GRUB starts {one.commit[:12]}, which is neither old nor new")
        else:
            boots.append(one.commit)
    violations = [*(f"mounted /boot: {problem}" for problem in seen.boot.problems)]
    if seen.boot.counts is None:
        violations.append("the count of boots in /boot/bootc.env is damaged")
    violations += _broken_entries(seen)
    violations += _lost(seen, reference)
    if unbootable or not boots:
        return Verdict("nothing", tuple(unbootable or ["GRUB starts nothing"]), tuple(violations))
    return Verdict(commits[boots[0]], (), tuple(violations), boots[0])


def _broken_entries(seen: Observation) -> list[str]:
    """Entries of both menus that do not start by themselves, but might be chosen."""
    found = []
    started = {one.deployment_link for one in seen.loader.started}
    for entry in {*seen.loader.entries, *seen.boot.entries}:
        link = entry.deployment_link or ""
        deployment = seen.root.links.get(link)
        if link in started:
            continue
        if deployment is None:
            found.append(f"the entry '{entry.title}' leads to no deployment")
        elif deployment.problems:
            found.append(f"the entry '{entry.title}': {summary(deployment.problems)}")
    return sorted(found)


def _lost(seen: Observation, reference: Reference) -> list[str]:
    """Files of /etc that are neither as before nor as after, and others that have to stay."""
    versions = list(reference.etc_versions())
    allowed: dict[str, set[str]] = {}
    for _, etc in versions:
        for path, digest in etc.items():
            allowed.setdefault(path, set()).add(digest)
    found = []
    for one in seen.started:
        if one is None or one.etc is None:
            continue
        own = [set(etc) for commit, etc in versions if commit == one.commit]
        always = set.intersection(*own) if own else set()
        lost = sorted(path for path in always if path not in one.etc)
        changed = [
            path for path in sorted(always - set(lost)) if one.etc[path] not in allowed[path]
        ]
        found += [f"/etc/{path} is lost" for path in lost]
        found += [f"/etc/{path} is neither the old nor the new one" for path in changed]
    for path, digest in seen.root.kept.items():
        if digest not in {reference.before.root.kept[path], reference.after.root.kept[path]}:
            found.append(f"{path} is lost or changed")
    return found
