"""What several commands share: processes that take turns, the machine, files of results, tables."""
