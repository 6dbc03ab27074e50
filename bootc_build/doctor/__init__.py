"""What this machine lacks for bootc-build, all at once, each with its remedy."""
