"""What the command line runs: settings, networks from names, devices; distilling and training a teacher."""
