"""A generator that begins anew for each batch of images."""

from dfad_fast.sources.restarted.spec import Restarted as Restarted
