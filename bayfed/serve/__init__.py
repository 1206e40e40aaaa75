"""The operator's page: parts are scored as they come, and a person decides the doubtful ones."""
