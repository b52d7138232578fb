"""Networks and weights from files."""
