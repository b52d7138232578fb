"""Networks by name, from this folder and from installed packages."""
