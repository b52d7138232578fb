"""The three networks of a run: checked against each other, run as the levers say, and shown images."""
