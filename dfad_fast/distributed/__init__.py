"""Runs spread over several processes: their groups, what they tell each other, averaged gradients."""
