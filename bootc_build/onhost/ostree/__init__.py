"""The only place that speaks to libostree: import, merge, deployments."""
