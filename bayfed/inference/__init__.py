"""What looks at pictures where nothing is trained: no module of this room needs torch."""
