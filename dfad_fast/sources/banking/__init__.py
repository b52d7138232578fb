"""A bounded store of images with the teacher's answers. It knows no network, file or run."""

from dfad_fast.sources.banking.answering import Answering as Answering
from dfad_fast.sources.banking.keeping import KEEPING as KEEPING
from dfad_fast.sources.banking.packing import FORMS as FORMS
from dfad_fast.sources.banking.packing import Packed as Packed
from dfad_fast.sources.banking.sealed import Limits as Limits
from dfad_fast.sources.banking.segments import Segment as Segment
from dfad_fast.sources.banking.store import Store as Store
