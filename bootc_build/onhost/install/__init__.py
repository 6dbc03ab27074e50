"""Lay a system out in an empty root: the image installs itself."""
