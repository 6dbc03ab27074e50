"""What would not survive import, boot or upgrade, found in a root directory."""
