"""``bootc-build image``: a derived image from a Containerfile, linted before it gets its name."""

import argparse
import sys
from pathlib import Path

from bootc_build.cli.output import StderrProgress
from bootc_build.image.derived import BuildRequest, build_image
from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.lint.render import finding_lines
from bootc_build.tools.rootless import enter

# Flags of `buildah build` that take a value, with what --help says of those that people use most. Flags
# that stand alone (--no-cache, --squash, --pull[=WHEN]) need no declaration: they are passed on as they are.
_SHOWN = {
    "build-arg": ("NAME=VALUE", "a value for an ARG of the Containerfile"),
    "secret": ("id=ID,src=FILE", "a file that a RUN --mount=type=secret may read"),
    "platform": ("OS/ARCH", "the platform to build for"),
    "target": ("STAGE", "the stage to build"),
    "label": ("NAME=VALUE", "a label of the image"),
    "annotation": ("NAME=VALUE", "an annotation of the image"),
    "volume": ("SOURCE:TARGET[:OPTIONS]", "a bind mount for RUN steps (buildah's -v)"),
    "build-context": ("NAME=PLACE", "a further context, for COPY --from=NAME"),
    "env": ("NAME=VALUE", "an environment variable of the image"),
    "from": ("IMAGE", "the image to use for the first FROM"),
    "network": ("MODE", "the network of RUN steps"),
    "isolation": ("TYPE", "how RUN steps are isolated (default: chroot)"),
    "timestamp": ("SECONDS", "one time for the image and every file that the build adds"),
}
_PASSED = """
add-host arch authfile cache-from cache-to cache-ttl cap-add cap-drop cert-dir cgroup-parent cgroupns
cpp-flag cpu-period cpu-quota cpu-shares cpuset-cpus cpuset-mems creds decryption-key device dns
dns-option dns-search format hooks-dir ignorefile ipc jobs layer-label logfile memory memory-swap os
os-feature os-version pid retry retry-delay runtime runtime-flag sbom sbom-image-output
sbom-image-purl-output sbom-merge-strategy sbom-output sbom-purl-output sbom-scanner-command
sbom-scanner-image security-opt shm-size sign-by source-date-epoch ssh ulimit unsetannotation unsetenv
unsetlabel userns userns-gid-map userns-gid-map-group userns-uid-map userns-uid-map-user uts variant
"""
# They would make something else than one image in local storage, which is what is linted and tagged.
_REFUSED = {
    "--manifest": "Build each platform by itself and put them together with: buildah manifest",
    "--all-platforms": "Build each platform by itself, with --platform.",
    "--output": "Build the image, then write it out with: bootc-build disk, or skopeo copy",
    "-o": "Build the image, then write it out with: bootc-build disk, or skopeo copy",
}
_EPILOG = """
Every other flag of 'buildah build' is passed on as it is, also after '--'; one that takes a value and is
not known here has to be written --flag=value. Layers are cached (--no-cache builds anew), base images are
taken from local storage and pulled only when they are missing (--pull asks the registry).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.allow_abbrev = False  # an abbreviation here may be a whole flag of buildah's
    parser.epilog = _EPILOG
    parser.add_argument(
        "context",
        metavar="CONTEXT",
        nargs="?",
        help="the directory that COPY copies from (default: the Containerfile's)",
    )
    parser.add_argument(
        "-f",
        "--file",
        metavar="CONTAINERFILE",
        action="append",
        default=[],
        help="the Containerfile (default: Containerfile in CONTEXT)",
    )
    parser.add_argument(
        "-t",
        "--tag",
        metavar="TAG",
        action="append",
        default=[],
        help="a name for the image (repeatable)",
    )
    parser.add_argument("--iidfile", metavar="FILE", type=Path, help="write the image's id there")
    parser.add_argument(
        "--skip-lint",
        metavar="NAME",
        action="append",
        default=[],
        help="a lint to leave out (repeatable; 'bootc-build lint --list' names them)",
    )
    parser.add_argument(
        "--fatal-warnings", action="store_true", help="refuse an image that has lint warnings"
    )
    group = parser.add_argument_group("flags of 'buildah build'")
    for name, (metavar, meaning) in _SHOWN.items():
        _declare(group, name, metavar, meaning)
    for name in _PASSED.split():
        _declare(group, name, "VALUE", argparse.SUPPRESS)
    parser.set_defaults(passed_on=[], flags=[])


def run(args: argparse.Namespace, progress: StderrProgress) -> int:
    """Build, lint, tag; prints the image's id."""
    request = request_of(args)
    enter(args.given)
    linted = build_image(request, progress)
    if not args.quiet:
        for found in linted.report.warnings:
            print(*finding_lines(found), sep="\n", file=sys.stderr)
    for tag in args.tag:
        progress.step(f"Tagged {tag}")
    print(linted.image)
    return 0


def request_of(args: argparse.Namespace) -> BuildRequest:
    """The build that the arguments ask for.

    Raises:
        UsageError: a flag that makes something else than one image; a second context.
    """
    passed_on = [argument for argument in args.passed_on if argument != "--"]
    for argument in passed_on:
        if not argument.startswith("-"):
            raise UsageError(
                f"'{argument}' is one argument too many.",
                "There is one CONTEXT; a flag that only buildah knows takes its value as --flag=value.",
            )
        flag = argument.partition("=")[0]
        if flag in _REFUSED:
            raise UsageError(f"bootc-build image does not take {flag}.", _REFUSED[flag])
    platforms = [flag for flag in args.flags if flag.startswith("--platform=")]
    if len(platforms) > 1 or any("," in platform for platform in platforms):
        raise UsageError(
            "bootc-build image builds for one platform at a time.", _REFUSED["--manifest"]
        )
    return BuildRequest(
        tags=tuple(args.tag),
        containerfiles=tuple(args.file),
        context=args.context,
        # What stands later wins in buildah.
        flags=("--layers", "--pull=false", *args.flags, *passed_on),
        id_file=args.iidfile,
        skip_lints=tuple(args.skip_lint),
        warnings_are_fatal=args.fatal_warnings,
    )


class _PassOn(argparse.Action):
    """Keep a flag with its value, in the order of the command line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse's signature
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        flags = [*namespace.flags, f"{self.option_strings[0]}={values}"]
        namespace.flags = flags


def _declare(group: argparse._ArgumentGroup, name: str, metavar: str, meaning: str) -> None:
    group.add_argument(
        f"--{name}", metavar=metavar, action=_PassOn, default=argparse.SUPPRESS, help=meaning
    )
