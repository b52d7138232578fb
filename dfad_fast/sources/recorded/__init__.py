"""Images that are optimized to be, to the teacher, as a record of its data says."""

from dfad_fast.sources.recorded.spec import Recorded as Recorded
