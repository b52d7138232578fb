"""The three networks of a run: fitted to each other, run as the levers say, and shown images."""
