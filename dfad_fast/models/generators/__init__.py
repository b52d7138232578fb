"""Generators of images from noise, by name."""
