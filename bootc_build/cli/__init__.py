"""The command line of ``bootc-build``: one verb, one file."""
