"""What is under the system: its disk, other disks that look like it, `/var` and the state, and what became of them."""
