"""A thin typed wrapper per external program of the build machine; no other room starts a subprocess."""
