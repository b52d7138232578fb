"""What can be read of any network: taps, batch norm statistics, the form of its answers."""
