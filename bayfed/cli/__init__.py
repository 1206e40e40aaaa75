"""The command ``bayfed``: thin commands over the library."""
