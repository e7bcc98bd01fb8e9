"""Published tile sets by name: what they look like on disk, their labels, groups and splits."""
