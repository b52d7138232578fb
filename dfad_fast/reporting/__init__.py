"""What a person sees of a run: the terminal, pictures, loggers and the report page."""
