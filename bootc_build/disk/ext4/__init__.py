"""An ext4 file system filled from a folder, in the order of its bytes, each written once.

mke2fs makes the empty file system, so that its policies stay its own; `fill` puts the folder's files into it, e2fsck
checks every bit of the metadata and indexes the directories, and only then the files' contents follow, front to back,
so that whoever reads along (a checksum) never waits for the end. libext2fs, which copies single blocks and sums an inode
up at each step, takes several times as long.

- `scan`: the folder as it will be: one node for each inode, in the order of paths
- `geometry`: what mke2fs laid out: groups, free blocks
- `allocate`: which inode and which blocks a node gets
- `records`, `directory`, `attributes`, `checksums`: nodes as bytes
- `fill`: the order of the steps

Formats: the kernel's ``Documentation/filesystems/ext4`` and ``fs/ext4/*.h``.
"""
