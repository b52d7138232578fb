"""``Recipe`` by the path that loops written for earlier versions import it from."""

from dfad_fast.engine.recipe import Recipe

__all__ = ["Recipe"]
