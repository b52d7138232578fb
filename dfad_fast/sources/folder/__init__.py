"""Unlabeled images from files, shown to both networks."""

from dfad_fast.sources.folder.spec import Folder as Folder
