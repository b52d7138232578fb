"""Initializes a student from its teacher's weights: which ones fit, and how they are taken."""
