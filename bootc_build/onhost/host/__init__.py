"""What the booted system is and what is done to it: status, switch, upgrade, rollback."""
