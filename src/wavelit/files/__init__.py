"""Files and folders that are whole, owned, bounded, with room on the disk."""
