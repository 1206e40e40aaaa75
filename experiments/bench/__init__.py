"""``bayfed bench``: methods x arms x sites x shots x seeds into one table."""
