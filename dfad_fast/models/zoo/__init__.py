"""Networks by name: those here and those of installed packages."""
