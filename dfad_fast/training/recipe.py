"""``Recipe`` under its old path, for loops written for earlier versions."""

from dfad_fast.engine.recipe import Recipe

__all__ = ["Recipe"]
