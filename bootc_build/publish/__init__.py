"""Disks out to clouds: uploads that go on where they were interrupted, and images made of them."""
