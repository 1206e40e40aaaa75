"""Many systems on many sites: what is measured once, the rows made of it, tables and plots."""
