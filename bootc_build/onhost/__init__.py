"""The on-host agent ``bootc``.

Layers, top to bottom; a layer imports only what stands below it:

    cli         argv -> a typed request -> one call -> rendering
    install     lay a system out in an empty root: the image installs itself
    lint        what would not survive import, boot or upgrade, found in a root directory
    host        what the booted system is and what is done to it: status, switch, upgrade, rollback
    bound       container images that a system binds, in podman's hands
    ostree      the only place that speaks to libostree: import, merge, deployments
    oci         references, manifests, the names of things, fetching through skopeo; pure or process only
    errors, process, image_tree, unsynced

Standard library, PyGObject (libostree) and PyYAML only, Python 3.11 or later: it has to run on any host.
"""
