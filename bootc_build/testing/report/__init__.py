"""The report of a test run for the browser: one HTML file that needs nothing else, `--bootc-report FILE`."""
