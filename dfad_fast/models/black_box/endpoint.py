"""A teacher behind an HTTP address: images go out and answers come back as .npy bytes."""

from __future__ import annotations

import io
import os
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dfad_fast.errors import RunError, UsageError, in_one_line
from dfad_fast.importing import import_package

TOKEN = "DFAD_FAST_TEACHER_TOKEN"
"""The environment variable whose value goes to the server as a bearer token."""

_TYPE = "application/x-npy"
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_ANSWER = 2**26  # bytes
_WAIT = 0.5  # seconds before the second try, doubled with each


class HTTPEndpoint:
    """Posts images to ``url`` and reads the answers; see the guide to black-box teachers for the form of both.

    A request that gets no answer, or that the server is too busy for, is repeated up to ``retries`` times, after 0.5,
    1, 2 ... seconds, or what the server's ``Retry-After`` says. Redirects are not followed. ``timeout`` is in seconds,
    of the connection and of each read.

    Raises:
        UsageError: for an address that is not of http or https, or that holds a password; where urllib3 is missing.
        RunError: from ``answer``, where no answer comes, or one that is no array.
    """

    def __init__(self, url: str, timeout: float = 30.0, retries: int = 4) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"a teacher's address is http://HOST:PORT/PATH or https://..., got {url!r}")
        if parts.username or parts.password:
            raise UsageError(
                f"the teacher's address holds a user or password, which a run would record: put a token into {TOKEN}"
            )
        self._http = import_package("urllib3", install="dfad-fast[http]")
        self._url = url
        retry = self._http.Retry(
            total=retries,
            redirect=0,
            backoff_factor=_WAIT,
            status_forcelist=_BUSY,
            allowed_methods=None,
            raise_on_status=False,
            raise_on_redirect=False,
        )
        self._pool = self._http.PoolManager(timeout=self._http.Timeout(timeout), retries=retry)

    def __call__(self, images: Any) -> np.ndarray:
        """The answers to images [N, C, H, W], in a request that is not to be told from another."""
        return self.answer(np.asarray(images, np.float32), "")

    def answer(self, images: np.ndarray, request: str) -> np.ndarray:
        """The answers to images [N, C, H, W]. ``request`` is the key by which the server knows one that is repeated."""
        body = io.BytesIO()
        np.save(body, np.ascontiguousarray(images, "<f4"), allow_pickle=False)
        headers = {"Content-Type": _TYPE, "Accept": _TYPE}
        if request:
            headers["Idempotency-Key"] = request
        if token := os.environ.get(TOKEN):
            headers["Authorization"] = f"Bearer {token}"
        try:
            response = self._pool.request(
                "POST", self._url, body=body.getvalue(), headers=headers, preload_content=False
            )
            content = response.read(_LONGEST_ANSWER + 1)
            response.release_conn()
        except self._http.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error  # what the last of several tries ended with
            said = in_one_line(reason.__cause__ or reason)
            raise RunError(
                f"no answer from the teacher at {self._url} ({said}): see that the server runs there, "
                "then resume the run"
            ) from error
        if response.status != 200:
            said = " ".join(content[:200].decode(errors="replace").split())
            raise RunError(
                f"the teacher at {self._url} answers HTTP {response.status} ({said or response.reason}): see what the "
                "server says, then resume the run"
            )
        if len(content) > _LONGEST_ANSWER:
            raise RunError(
                f"the teacher at {self._url} answers more than {_LONGEST_ANSWER:,} bytes to a request"
            )
        return self._read(content)

    def _read(self, content: bytes) -> np.ndarray:
        try:
            answer = np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise RunError(
                f"the teacher at {self._url} answers no .npy array ({in_one_line(error)}): let the server answer with "
                "numpy.save"
            ) from error
        if not isinstance(answer, np.ndarray):
            raise RunError(
                f"the teacher at {self._url} answers a .npz archive: let it answer a single .npy array"
            )
        return answer
