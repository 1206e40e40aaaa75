"""A detector fitted to one product: what it says of an image, as a file, and how it is kept."""
