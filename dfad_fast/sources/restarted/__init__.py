"""A generator that restarts for each batch of images."""

from dfad_fast.sources.restarted.spec import Restarted as Restarted
