"""A teacher behind an address, for black-box distillation: the form of requests and answers in a few lines.

    python examples/teacher_server.py --network resnet8-w32 --image-shape 1,8,8 --classes 10 --weights FILE.safetensors

It answers on the loopback interface alone, with a network's probabilities, and counts the images that it was asked
about. A request that comes again with the same Idempotency-Key, among the last 1,000, gets the first one's answer and
is not counted. The page /count tells the count. It has no encryption and no users, and is no server to show to the
world.
"""

from __future__ import annotations

import argparse
import io
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch

from dfad_fast.models import create_network, load_weights

LARGEST_REQUEST = 2**28  # bytes
KEPT_ANSWERS = 1000  # the last ones: a client repeats what it asked last


class TeacherServer(ThreadingHTTPServer):
    """Answers with what ``ask`` makes of images [N, C, H, W]. ``count`` images were asked about, ``requests`` times."""

    daemon_threads = True

    def __init__(self, port: int, ask: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self._ask = ask
        self._lock = threading.Lock()
        self._answers: dict[str, bytes] = {}
        self.count = 0
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def answer(self, images: np.ndarray, key: str | None) -> bytes:
        """The .npy bytes of the probabilities, float32 [N, classes]."""
        with self._lock, torch.no_grad():
            if key in self._answers:
                return self._answers[key]
            probabilities = self._ask(torch.from_numpy(images)).numpy()
            self.count += len(images)
            self.requests += 1
            file = io.BytesIO()
            np.save(file, probabilities, allow_pickle=False)
            if key:
                self._answers[key] = file.getvalue()
                if len(self._answers) > KEPT_ANSWERS:
                    del self._answers[next(iter(self._answers))]
            return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    server: TeacherServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/count":
            told = {"images": self.server.count, "requests": self.server.requests}
            self._reply(200, "application/json", json.dumps(told).encode())
        else:
            self._reply(404, "text/plain", b"only /count is here")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= LARGEST_REQUEST:
            self.close_connection = True  # what was not read would be taken for the next request
            self._reply(413, "text/plain", f"a request has 1 to {LARGEST_REQUEST:,} bytes".encode())
            return
        try:
            images = np.load(io.BytesIO(self.rfile.read(length)), allow_pickle=False)
            if images.dtype != np.float32 or images.ndim != 4 or not len(images):
                raise ValueError(
                    f"float32 images [N, C, H, W] were expected, got {images.dtype} {images.shape}"
                )
            body = self.server.answer(images, self.headers.get("Idempotency-Key"))
        except (ValueError, RuntimeError, EOFError) as error:
            self._reply(400, "text/plain", str(error).encode())
            return
        self._reply(200, "application/x-npy", body)

    def _reply(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """A line for each request would hide everything else."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", required=True, help="a network's name, such as resnet8-w32")
    parser.add_argument("--weights", help="its weights, .safetensors")
    parser.add_argument("--image-shape", default="1,8,8", help="CHANNELS,HEIGHT,WIDTH")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one")
    options = parser.parse_args()
    channels, height, width = map(int, options.image_shape.split(","))
    torch.manual_seed(0)
    network = create_network(options.network, (channels, height, width), options.classes).eval()
    if options.weights:
        load_weights(network, options.weights, "teacher")
    with TeacherServer(options.port, lambda images: torch.softmax(network(images), 1)) as server:
        print(f"answering at {server.url}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
