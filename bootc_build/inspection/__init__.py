"""What is in an image or a disk, and how two of them differ: read without root, mounts or devices."""
