"""Augmentations that are drawn once and stored, so that the same view of an image can be reused with its answer."""

from dfad_fast.sources.augmenting.applying import apply_views as apply_views
from dfad_fast.sources.augmenting.drawing import draw_views as draw_views
from dfad_fast.sources.augmenting.drawing import parse_augment as parse_augment
from dfad_fast.sources.augmenting.views import Views as Views
