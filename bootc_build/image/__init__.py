"""Bootable images: bases from distribution packages, derived ones from a Containerfile, and lint."""
