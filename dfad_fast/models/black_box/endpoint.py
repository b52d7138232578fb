"""A teacher behind an HTTP address: images go out and answers come back as .npy bytes."""

from __future__ import annotations

import io
import os
import re
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dfad_fast.errors import RunError, UsageError, in_one_line
from dfad_fast.importing import import_package
from dfad_fast.terminal import printable

TOKEN = "DFAD_FAST_TEACHER_TOKEN"
"""The environment variable whose value goes to the server as a bearer token."""

_TYPE = "application/x-npy"
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_ANSWER = 2**26  # bytes
_WAIT = 0.5  # seconds before the second try, doubled with each
_LONGEST_WAIT = 60.0  # seconds, whatever the server says


class _NoAnswer(Exception):
    """To a request that may be repeated, after ``wait`` seconds where the server says so."""

    def __init__(self, text: str, wait: float | None = None) -> None:
        super().__init__(text)
        self.wait = wait


class HTTPEndpoint:
    """Posts images to ``url`` and reads the answers; see the guide to black-box teachers for the form of both.

    A request that gets no answer, a broken one, or that the server is too busy for, is repeated up to ``retries``
    times, after 0.5, 1, 2 ... seconds, or what the server's ``Retry-After`` says, but never more than 60. Redirects are
    not followed. ``timeout`` is in seconds, of the connection and of each read. Errors show the address without its
    query.

    Raises:
        UsageError: for an address that is not of http or https, or that holds a password; for a token that no header
            can hold; where urllib3 is missing.
        RunError: from ``answer``, where no answer comes, or one that is no array.
    """

    def __init__(self, url: str, timeout: float = 30.0, retries: int = 4) -> None:
        self._shown = printable(re.split("[?#]", url)[0])
        try:
            parts = urlsplit(url)
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a host or a port that is none
            fits = False
        if not fits:
            got = re.sub(r"^(\w+://)?.*@", r"\1", self._shown)  # without a password
            raise UsageError(f"a teacher's URL must be http://HOST:PORT/PATH or https://..., got {got!r}")
        if parts.username or parts.password:
            raise UsageError(
                f"the teacher's URL contains a user or password, which the run would record: put a token into {TOKEN}"
            )
        _token()
        self._http = import_package("urllib3", install="dfad-fast[http]")
        self._url = url
        self._retries = retries
        self._pool = self._http.PoolManager(timeout=self._http.Timeout(timeout))

    def __call__(self, images: Any) -> np.ndarray:
        """The answers to images [N, C, H, W], in a request without a key."""
        return self.answer(np.asarray(images, np.float32), "")

    def answer(self, images: np.ndarray, request: str) -> np.ndarray:
        """The answers to images [N, C, H, W]. With the key ``request`` the server recognizes repeats."""
        body = io.BytesIO()
        np.save(body, np.ascontiguousarray(images, "<f4"), allow_pickle=False)
        headers = {"Content-Type": _TYPE, "Accept": _TYPE}
        if request:
            headers["Idempotency-Key"] = request
        if token := _token():
            headers["Authorization"] = f"Bearer {token}"
        tries = 0
        while True:
            try:
                return self._read(self._post(body.getvalue(), headers))
            except _NoAnswer as failed:
                if tries == self._retries:
                    raise RunError(str(failed)) from failed.__cause__
                time.sleep(min(_WAIT * 2**tries if failed.wait is None else failed.wait, _LONGEST_WAIT))
            tries += 1

    def _post(self, body: bytes, headers: dict[str, str]) -> bytes:
        """The body of an answer with status 200."""
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=body,
                headers=headers,
                preload_content=False,
                redirect=False,
                retries=False,
            )
            content: bytes = response.read(_LONGEST_ANSWER + 1)
        except self._http.exceptions.HTTPError as error:
            said = printable(in_one_line(error.__cause__ or error))
            raise _NoAnswer(
                f"no answer from the teacher at {self._shown} ({said}): check that the server is running, "
                "then resume the run"
            ) from error
        if len(content) > _LONGEST_ANSWER:
            response.close()  # the rest would be read as the next answer
            raise RunError(
                f"the teacher at {self._shown} returned more than {_LONGEST_ANSWER:,} bytes for one request"
            )
        response.release_conn()
        if response.status != 200:
            said = " ".join(content[:200].decode(errors="replace").split())
            text = (
                f"the teacher at {self._shown} returned HTTP {response.status} "
                f"({printable(said or response.reason or '')}): check the server, then resume the run"
            )
            raise _NoAnswer(text, self._wished(response)) if response.status in _BUSY else RunError(text)
        return content

    def _wished(self, response: Any) -> float | None:
        """The seconds of ``Retry-After``; None if it is missing or unreadable."""
        try:
            seconds: float | None = self._http.Retry().get_retry_after(response)
        except (self._http.exceptions.HTTPError, ValueError, OverflowError):
            return None
        return seconds

    def _read(self, content: bytes) -> np.ndarray:
        try:
            answer = np.load(io.BytesIO(content), allow_pickle=False)
        except Exception as error:  # of any kind: the content is unknown
            raise _NoAnswer(
                f"the teacher at {self._shown} did not return a .npy array ({printable(in_one_line(error))}): encode "
                "the server's answers with numpy.save"
            ) from error
        if not isinstance(answer, np.ndarray):
            raise RunError(
                f"the teacher at {self._shown} returned a .npz archive: return a single .npy array"
            )
        return answer


def _token() -> str | None:
    """The token, if there is one. Raises UsageError, without showing it, if it is not a valid header value."""
    token = os.environ.get(TOKEN, "").strip()
    if not (token.isascii() and token.isprintable()):
        raise UsageError(
            f"{TOKEN} contains characters that are not printable ASCII: set it to the token only"
        )
    return token or None
