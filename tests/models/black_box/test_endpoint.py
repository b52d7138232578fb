"""A teacher behind an address: the example server, and servers that fail."""

import io
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch

from dfad_fast import BlackBoxTeacher, RunError, UsageError
from dfad_fast.models.black_box import HTTPEndpoint, endpoint
from examples import teacher_server
from examples.teacher_server import TeacherServer
from tests.small_networks import make_net

pytest.importorskip("urllib3")
IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def network():
    torch.manual_seed(0)
    return make_net(2).eval()


@pytest.fixture
def server(network):
    with running(TeacherServer(0, lambda images: network(images).softmax(1))) as server:
        yield server


def test_the_server_is_a_teacher(server, network):
    teacher = BlackBoxTeacher(HTTPEndpoint(server.url), 4, max_batch=2)
    logits = network(IMAGES)
    torch.testing.assert_close(teacher(IMAGES), (logits - logits.mean(1, keepdim=True)).detach())
    teacher(IMAGES)
    assert (server.count, server.requests) == (3, 2)
    assert urlopen(server.url + "count").read() == b'{"images": 3, "requests": 2}'


def test_a_request_that_is_repeated_counts_once(server):
    ask = HTTPEndpoint(server.url)
    first, again = ask.answer(IMAGES.numpy(), "key"), ask.answer(IMAGES.numpy(), "key")
    np.testing.assert_array_equal(first, again)
    assert server.count == 3
    ask.answer(IMAGES.numpy(), "other")
    ask(IMAGES)
    assert server.count == 9


def test_the_server_forgets_old_requests(server, monkeypatch):
    monkeypatch.setattr(teacher_server, "KEPT_ANSWERS", 2)
    ask = HTTPEndpoint(server.url)
    for key in ("a", "b", "c", "b", "c"):
        ask.answer(IMAGES.numpy(), key)
    assert server.requests == len(server._answers) + 1 == 3


@pytest.mark.parametrize(
    "body",
    [b"no array", b"", np.array([{}]).dumps(), "double", "flat"],
    ids=["text", "none", "pickle", "double", "flat"],
)
def test_the_server_refuses_what_is_no_images(server, body):
    if isinstance(body, str):
        file = io.BytesIO()
        np.save(file, IMAGES.double().numpy() if body == "double" else IMAGES[0, 0].numpy())
        body = file.getvalue()
    with pytest.raises(Exception, match=r"HTTP Error 4(00|13)"):
        urlopen(Request(server.url, body))
    assert server.count == 0
    assert HTTPEndpoint(server.url)(IMAGES).shape == (3, 4)


class Answering(BaseHTTPRequestHandler):
    """Gives the server's ``replies`` one after the other: status, headers and body."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(dict(self.headers))
        status, headers, body = self.server.replies[min(len(self.server.asked), len(self.server.replies)) - 1]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def replying(*replies):
    server = HTTPServer(("127.0.0.1", 0), Answering)
    server.replies, server.asked = replies, []
    server.url = f"http://127.0.0.1:{server.server_address[1]}/"
    with running(server):
        yield server


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


GOOD = 200, {}, npy(np.full((3, 4), 0.25, np.float32))


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(endpoint, "_WAIT", 0.0)


def test_a_busy_server_is_asked_again(at_once):
    with replying((503, {}, b""), (429, {"Retry-After": "0"}, b""), GOOD) as server:
        assert HTTPEndpoint(server.url).answer(IMAGES.numpy(), "key").shape == (3, 4)
    assert [asked["Idempotency-Key"] for asked in server.asked] == ["key"] * 3


def test_it_gives_up_after_so_many_times(at_once):
    with (
        replying((503, {}, b"come back")) as server,
        pytest.raises(RunError, match=r"HTTP 503 \(come back\)"),
    ):
        HTTPEndpoint(server.url, retries=2)(IMAGES)
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((404, {}, b"not here\n\nat all"), r"HTTP 404 \(not here at all\)"),
        ((404, {}, b"\x1b[2J"), r"HTTP 404 \(\\x1b\[2J\)"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "HTTP 302"),
    ],
)
def test_other_answers_are_one_line(at_once, reply, said):
    with replying(reply) as server, pytest.raises(RunError, match=said) as caught:
        HTTPEndpoint(server.url)(IMAGES)
    assert str(caught.value).isprintable()
    assert len(server.asked) == 1


BROKEN = {
    "text": (200, {}, b"hello"),
    "none": (200, {}, b""),
    "pickle": (200, {}, npy(np.array([{"a": 1}], object))),
    "short": (200, {}, npy(np.zeros((3, 4)))[:-3]),
    "zip": (200, {}, b"PK\x03\x04 and no more"),
    "cut off": (200, {"Content-Length": "999"}, npy(np.zeros((3, 4)))),
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN)
def test_a_broken_answer_is_asked_for_again(at_once, reply):
    with replying(reply, GOOD) as server:
        assert HTTPEndpoint(server.url).answer(IMAGES.numpy(), "key").shape == (3, 4)
    assert [asked["Idempotency-Key"] for asked in server.asked] == ["key"] * 2
    with (
        replying(reply) as server,
        pytest.raises(RunError, match=r"not return a .npy array|no answer from") as caught,
    ):
        HTTPEndpoint(server.url, retries=1)(IMAGES)
    assert str(caught.value).isprintable()
    assert len(server.asked) == 2


def test_waits_grow_and_end(monkeypatch):
    waits = []
    monkeypatch.setattr(endpoint.time, "sleep", waits.append)
    busy = 503, {}, b""
    with replying(
        *[busy] * 3, *((429, {"Retry-After": wait}, b"") for wait in ("7", "9" * 20, "soon")), GOOD
    ) as server:
        HTTPEndpoint(server.url, retries=6)(IMAGES)
    assert waits == [0.5, 1.0, 2.0, 7.0, 60.0, 16.0]


def test_an_archive_and_a_long_answer_are_refused(at_once, monkeypatch):
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    with replying((200, {}, file.getvalue()), GOOD) as server:
        with pytest.raises(RunError, match="npz archive"):
            HTTPEndpoint(server.url)(IMAGES)
        monkeypatch.setattr(endpoint, "_LONGEST_ANSWER", 100)
        with pytest.raises(RunError, match="more than 100 bytes"):
            HTTPEndpoint(server.url)(IMAGES)


def test_nobody_there(at_once):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(RunError, match=r"no answer from the teacher at .*refused"):
            HTTPEndpoint(url, retries=1)(IMAGES)


def test_a_server_that_says_nothing_is_not_waited_for(at_once):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(RunError, match=r"no answer from the teacher at .*timed out"):
            HTTPEndpoint(url, timeout=0.1, retries=1)(IMAGES)


def test_the_token_goes_along(monkeypatch):
    monkeypatch.setenv(endpoint.TOKEN, " secret\r\n")
    with replying(GOOD) as server:
        HTTPEndpoint(server.url)(IMAGES)
    assert server.asked[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("token", ["sec\nret", "sec\x1bret", "secr\u00e9t"])
def test_another_token_is_refused_and_not_shown(monkeypatch, token):
    with replying(GOOD) as server:
        ask = HTTPEndpoint(server.url)
        monkeypatch.setenv(endpoint.TOKEN, token)
        for make in (lambda: HTTPEndpoint(server.url), lambda: BlackBoxTeacher(ask, 4)(IMAGES)):
            with pytest.raises(UsageError, match="not printable ASCII") as caught:
                make()
            assert "sec" not in str(caught.value)
    assert not server.asked


def test_errors_show_no_query(at_once):
    with replying((404, {}, b"")) as server, pytest.raises(RunError, match="HTTP 404") as caught:
        HTTPEndpoint(f"{server.url}?key=secret#secret")(IMAGES)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/hosts", "must be http://HOST"),
        ("localhost:80", "must be http://HOST"),
        ("http://", "must be http://HOST"),
        ("http://[::1/", r"must be http://HOST.* got 'http://\[::1/'"),
        ("http://host:99999/", "must be http://HOST"),
        ("http://me:secret/", "must be http://HOST"),
        ("ftp://me:sec/ret@host/?key=secret", "got 'ftp://host/'"),
        ("me:secret@host:8000/", "got 'host:8000/'"),
        ("http://me:secret@host/", "put a token into DFAD_FAST_TEACHER_TOKEN"),
    ],
)
def test_other_addresses_are_refused(url, said):
    with pytest.raises(UsageError, match=said) as caught:
        HTTPEndpoint(url)
    assert "@" not in str(caught.value)
