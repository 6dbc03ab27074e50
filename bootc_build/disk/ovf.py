"""An appliance (OVA): a tar of a descriptor, a manifest of digests and a stream-optimized VMDK.

The formats are DMTF's DSP0243 (Open Virtualization Format 1.1) and, for the elements of a virtual machine, CIM's
classes as that document maps them. Elements of an Item stand in alphabetical order, as the schema has them.
"""

import hashlib
import html
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bootc_build.onhost.errors import UserError
from bootc_build.tools.sizes import GIB, in_words

_OVF = "http://schemas.dmtf.org/ovf/envelope/1"
_CIM = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2"
_LARGEST_MEMBER = 8 * GIB - 1  # 11 octal digits, all that a ustar header has
_DISK_FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
_MEMORY_MIB = 2048
_PROCESSORS = 2
# CIM_OperatingSystem.OSType: "Linux 2.6.x or newer, 64-bit", which every importer knows.
_LINUX_64 = 101


@dataclass(frozen=True)
class Appliance:
    """What an appliance says of itself.

    Attributes:
        name: file names begin with it, and importers show it.
        disk_bytes: size of the disk that the machine sees.
        stored_bytes: of the VMDK file.
        identity: the virtual system's own id.
    """

    name: str
    disk_bytes: int
    stored_bytes: int
    identity: UUID


def descriptor(appliance: Appliance) -> str:
    """The OVF descriptor: one virtual machine with the disk on an AHCI controller and one network card."""
    name = html.escape(appliance.name)
    items = "".join(
        _item(**values)
        for values in (
            {
                "AllocationUnits": "hertz * 10^6",
                "Description": "Number of virtual processors",
                "ElementName": f"{_PROCESSORS} virtual processors",
                "InstanceID": 1,
                "ResourceType": 3,
                "VirtualQuantity": _PROCESSORS,
            },
            {
                "AllocationUnits": "byte * 2^20",
                "Description": "Memory",
                "ElementName": f"{_MEMORY_MIB} MB of memory",
                "InstanceID": 2,
                "ResourceType": 4,
                "VirtualQuantity": _MEMORY_MIB,
            },
            {
                "Address": 0,
                "Description": "SATA controller",
                "ElementName": "SATA controller 0",
                "InstanceID": 3,
                "ResourceSubType": "vmware.sata.ahci",
                "ResourceType": 20,
            },
            {
                "AddressOnParent": 0,
                "ElementName": "Disk 1",
                "HostResource": "ovf:/disk/disk1",
                "InstanceID": 4,
                "Parent": 3,
                "ResourceType": 17,
            },
            {
                "AddressOnParent": 7,
                "AutomaticAllocation": "true",
                "Connection": "network",
                "Description": "Network card",
                "ElementName": "Network card 1",
                "InstanceID": 5,
                "ResourceSubType": "VmxNet3",
                "ResourceType": 10,
            },
        )
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="{_OVF}" xmlns:ovf="{_OVF}" xmlns:rasd="{_CIM}/CIM_ResourceAllocationSettingData" xmlns:vssd="{_CIM}/CIM_VirtualSystemSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References>
    <File ovf:href="{name}.vmdk" ovf:id="file1" ovf:size="{appliance.stored_bytes}"/>
  </References>
  <DiskSection>
    <Info>Virtual disks</Info>
    <Disk ovf:capacity="{appliance.disk_bytes}" ovf:capacityAllocationUnits="byte" ovf:diskId="disk1" ovf:fileRef="file1" ovf:format="{_DISK_FORMAT}"/>
  </DiskSection>
  <NetworkSection>
    <Info>Logical networks</Info>
    <Network ovf:name="network">
      <Description>The network that the machine asks by DHCP</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{name}">
    <Info>A virtual machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="{_LINUX_64}" vmw:osType="debian12_64Guest">
      <Info>The operating system</Info>
      <Description>Debian GNU/Linux (64-bit)</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System>
        <vssd:ElementName>Virtual hardware family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{appliance.identity}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-14</vssd:VirtualSystemType>
      </System>
{items}      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"""


def write_ova(appliance: Appliance, vmdk: Path, ova: Path, timestamp: int) -> None:
    """Write the appliance; the same disk makes the same file.

    Args:
        appliance: what it says of itself.
        vmdk: its disk.
        ova: the new file.
        timestamp: seconds since the epoch, the members' time.

    Raises:
        UserError: the disk is too large for a tar of the format that appliances must have.
        OSError: no space.
    """
    if appliance.stored_bytes > _LARGEST_MEMBER:
        raise UserError(
            f"A disk of {in_words(appliance.stored_bytes)} (compressed) does not fit into an appliance, "
            f"whose files may have {in_words(_LARGEST_MEMBER + 1)}.",
            "Use --type vmdk, and import the disk by itself.",
        )
    text = descriptor(appliance).encode()
    with vmdk.open("rb") as disk:
        digest = hashlib.file_digest(disk, "sha256").hexdigest()
    name = appliance.name
    manifest = (
        f"SHA256({name}.ovf)= {hashlib.sha256(text).hexdigest()}\nSHA256({name}.vmdk)= {digest}\n"
    ).encode()
    # The descriptor comes first, the manifest next, then what the descriptor refers to.
    with tarfile.open(ova, "x", format=tarfile.USTAR_FORMAT) as archive, vmdk.open("rb") as disk:
        for suffix, size, content in (
            ("ovf", len(text), io.BytesIO(text)),
            ("mf", len(manifest), io.BytesIO(manifest)),
            ("vmdk", appliance.stored_bytes, disk),
        ):
            member = tarfile.TarInfo(f"{name}.{suffix}")
            member.size, member.mtime, member.mode = size, timestamp, 0o644
            archive.addfile(member, content)


def _item(**values: object) -> str:
    lines = "".join(f"        <rasd:{key}>{value}</rasd:{key}>\n" for key, value in values.items())
    return f"      <Item>\n{lines}      </Item>\n"
