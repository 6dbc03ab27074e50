"""References, manifests, the names of things, fetching through skopeo; no libostree here."""
