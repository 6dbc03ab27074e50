"""An image's layers as objects of a repository, imported once and kept for the next disk.

- `layers`: which are kept, what a disk gets of them, what becomes of damaged ones
- `stored_layer`, `object_writer`: a layer out of containers-storage into objects, by two processes
- `layer_objects`: the form of objects
- `object_check`: objects are hashed on their way to the disk
"""
