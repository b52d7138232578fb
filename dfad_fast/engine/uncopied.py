"""Objects that cannot be copied, since a copy would use the original's networks, hooks and open files in part."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

from dfad_fast.errors import UsageError


class Uncopied:
    """Raises UsageError if it is copied or pickled."""

    def __reduce_ex__(self, _protocol: SupportsIndex) -> NoReturn:
        kind = type(self).__name__
        raise UsageError(
            f"a {kind} cannot be copied or pickled: build another {kind} from copies of its networks, and load the "
            "state_dict() of this one"
        )
