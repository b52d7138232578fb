"""Profiles of training iterations: how much time each part takes."""
