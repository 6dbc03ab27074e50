"""From an image to a disk: plan (pure), populate, file systems, boot loader, assembly, formats."""
