from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from dfad_fast.errors import UsageError

Expect = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def usage_error() -> Expect:
    """A context in which a UsageError must come, of one line that holds each of the given parts."""

    @contextmanager
    def expect(*parts: object) -> Iterator[None]:
        with pytest.raises(UsageError) as caught:
            yield
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        for part in parts:
            assert str(part) in message

    return expect
