"""Logically bound images: container images that a system needs, kept as long as one of its deployments is."""
