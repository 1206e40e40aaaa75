"""A method and a protocol in, rows of results, tables and the report out."""
