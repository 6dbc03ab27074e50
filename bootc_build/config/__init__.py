"""Configuration files (YAML, TOML, JSON) become frozen records here, and nowhere else.

``document`` reads a file; ``record`` checks it against declared records and says what is wrong, by file, key
path and allowed values; ``disk`` declares disk.yaml, ``blueprint`` what bootc-image-builder takes. The JSON
Schema of disk.yaml comes from the same declarations (``schema``).
"""
