"""Many runs over the cores of one machine."""
