"""Other libraries, in an environment of their own: what they say of the same images."""
