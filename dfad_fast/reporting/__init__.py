"""Output of a run for people: the terminal, pictures, loggers and the report page."""
