"""What would not survive import, boot or upgrade, found in a root directory.

``registry.lint_root()`` runs every lint over one root and one shared walk of it. A lint is a small
function from a ``Root`` to findings; it never writes, never follows a link out of the root and asks
nothing of libostree, so it runs on a build machine, in a container build and on a booted host alike.
"""
