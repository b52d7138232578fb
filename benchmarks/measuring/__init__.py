"""Code shared by several commands: processes that take turns, machine data, result files, tables."""
