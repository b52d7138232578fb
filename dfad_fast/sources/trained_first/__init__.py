"""Generators that are trained before the student learns from them."""

from dfad_fast.sources.trained_first.spec import TrainedFirst as TrainedFirst
