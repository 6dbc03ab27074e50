"""The command line of ``bootc``: one verb, one file."""
