"""Links from a JUnit XML file to what tests left behind.

pytest writes the file with a property for each artifact; here each also becomes a line
`[[ATTACHMENT|path]]` in the test's system-out, which is what Jenkins and GitLab look for.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

from bootc_build.testing.artifacts import MachineArtifacts

_PREFIX = "bootc."


def artifact_properties(
    machines: Iterable[MachineArtifacts], relative_to: Path | None
) -> list[tuple[str, object]]:
    """A property for each file.

    Args:
        machines: whose files.
        relative_to: folder of the XML file; None keeps absolute paths.
    """
    return [
        (
            f"{_PREFIX}{machine.name}.{what.replace(' ', '-')}",
            os.path.relpath(path, relative_to) if relative_to else str(path),
        )
        for machine in machines
        for what, path in machine.files()
    ]


def add_attachments(xml: Path) -> None:
    """Name the files of the properties in each test's system-out; the XML file is replaced as a whole."""
    tree = ET.parse(xml)  # noqa: S314 - pytest's own file
    for case in tree.iter("testcase"):
        paths = [
            one.get("value", "")
            for one in case.iterfind("properties/property")
            if one.get("name", "").startswith(_PREFIX)
        ]
        if not paths:
            continue
        out = case.find("system-out")
        if out is None:
            out = ET.SubElement(case, "system-out")
        out.text = (out.text or "") + "".join(f"\n[[ATTACHMENT|{path}]]" for path in paths) + "\n"
    # xmlns and declaration as pytest writes them.
    partial = xml.with_name(f".{xml.name}.partial")
    tree.write(partial, encoding="utf-8", xml_declaration=True)
    partial.replace(xml)
