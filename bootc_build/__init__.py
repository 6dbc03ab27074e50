"""bootc-build: operating systems shipped as OCI container images.

Layers, top to bottom; a layer imports only what stands below it:

    cli         one verb, one file: argv -> a typed request -> one call -> rendering
    testing     the pytest plugin
    doctor      what this machine lacks
    publish     disks out to clouds (AMI); of the rooms beside each other below it knows disk alone
    image  disk  vm    base and derived images; disks; one QEMU machine (they do not know each other)
    inspection  what is in an image or a disk; how two differ
    config      YAML, TOML and JSON files -> frozen records; errors name file, key path and what is allowed
    tools       a thin typed wrapper per external program of the build machine
    onhost      the `bootc` agent that images carry; standard library, libostree and YAML only

``data/image_root`` holds what goes into images, at its exact path inside them.
"""

__version__ = "0.1.0"
