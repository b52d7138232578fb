"""Reads images from files and fits them to a teacher's image shape."""

from dfad_fast.sources.folder.reading.image_set import ImageSet as ImageSet
from dfad_fast.sources.folder.reading.image_set import read_images as read_images
