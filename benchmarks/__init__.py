"""What the documentation claims about speed and memory, as ratios measured in one run."""
