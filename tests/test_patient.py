"""A dataset behind a server that answers late, that it is busy, or with half of what was asked:
every sample is the one of the disk.
"""

import gc
import io
import re
import threading
import time
import warnings
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from wavelit.data.datamodule import WellDataModule
from wavelit.data.format import patient
from wavelit.data.format.patient import PatientFile, patiently
from wavelit.errors import WavelitError
from waves import write_waves


class Server(ThreadingHTTPServer):
    """Files of a folder, with ranges; `faults` are taken one by one by requests for HDF5."""

    def __init__(self, folder):
        self.folder, self.faults, self.done = folder, [], []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    # A connection for each request: one that is kept would outlive what it was asked for.
    protocol_version = "HTTP/1.0"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = self.server.folder / self.path.strip("/")
        if path.is_dir():
            links = "".join(f'<a href="{each.name}">x</a>' for each in path.iterdir())
            return self.send(200, links.encode(), body, kind="text/html")
        if not path.is_file():
            return self.send(404, b"", body)
        fault = self.server.faults.pop(0) if body and self.server.faults else None
        if fault is not None:
            self.server.done.append(fault)
        if fault == "busy":
            return self.send(429, b"", body, retry=0.01)
        if fault == "broken":
            return self.send(503, b"", body)
        if fault == "late":
            time.sleep(0.3)
        data = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self.send(200, data, body, cut=fault == "cut")
        first, last = int(asked[1]), int(asked[2] or len(data) - 1)
        part = data[first : last + 1]
        place = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        return self.send(206, part, body, place=place, cut=fault == "cut")

    def send(self, status, data, body, kind="text/plain", place="", cut=False, retry=0):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Accept-Ranges", "bytes")
        if place:
            self.send_header("Content-Range", place)
        if retry:
            self.send_header("Retry-After", str(retry))
        self.end_headers()
        if body:
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(patient, "PAUSES", (0.01, 0.02, 0.04, 0.08))
    write_waves(tmp_path / "waves")
    with Server(tmp_path) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def samples(path):
    dataset = WellDataModule(path).train_dataset
    return [dataset.collate(dataset.__getitems__([i, len(dataset) - 1 - i])) for i in range(3)]


@pytest.mark.parametrize(
    "faults",
    [["busy", "busy", "late"], ["cut", "cut"], ["late"], ["broken", "late", "cut", "busy"]],
    ids=lambda faults: "-".join(faults[:4]),
)
def test_samples_are_those_of_the_disk(server, tmp_path, faults):
    due = samples(str(tmp_path / "waves"))
    server.faults = list(faults)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = samples(f"http://127.0.0.1:{server.server_port}/waves")
    assert server.done == faults
    told = ["trying again" in str(each.message) for each in caught]
    assert any(told) == (set(faults) != {"late"})
    for one, other in zip(found, due, strict=True):
        assert torch.equal(one.fields, other.fields)
        assert torch.equal(one.target, other.target)


def test_what_never_comes_is_one_line(server):
    server.faults = ["broken"] * 100
    with pytest.warns(UserWarning, match="503"), pytest.raises(WavelitError, match="503"):
        samples(f"http://127.0.0.1:{server.server_port}/waves")
    assert len(server.done) >= len(patient.PAUSES)


def test_an_error_that_time_does_not_change_is_raised_at_once():
    tried = []

    def fail(error):
        tried.append(error)
        raise error

    for error in (FileNotFoundError("gone"), ValueError("no"), PermissionError("not yours")):
        with pytest.raises(type(error)):
            patiently(lambda error=error: fail(error), "a", (OSError, ValueError), reached=True)
    with pytest.raises(ConnectionRefusedError):
        patiently(lambda: fail(ConnectionRefusedError("refused")), "a", (OSError,))
    assert len(tried) == 4


def test_nothing_is_collected_while_a_file_is_read(tmp_path):
    """A collection in the loop's thread that meets an object of h5py waits for ever."""
    (tmp_path / "f").write_bytes(b"0" * 10)
    seen = []

    class Watched(io.FileIO):
        def read(self, n=-1):
            seen.append(gc.isenabled())
            return super().read(n)

    with PatientFile(lambda: Watched(tmp_path / "f"), "f", (OSError,)) as file:
        assert file.read(10) == b"0" * 10
        assert seen == [False]
        assert gc.isenabled()
        gc.disable()
        try:
            file.seek(0)
            file.read(1)
            assert not gc.isenabled()
        finally:
            gc.enable()


def test_a_file_is_read_like_any_other(tmp_path):
    (tmp_path / "f").write_bytes(bytes(range(100)))
    with PatientFile(partial((tmp_path / "f").open, "rb"), "f", (OSError,)) as file:
        assert file.read(3) == b"\0\1\2"
        assert file.seek(-2, 2) == 98
        assert file.read(10) == bytes([98, 99])
        assert file.read(1) == b""
        assert file.seek(-50, 1) == 50
        assert file.tell() == 50
        assert [file.readable(), file.seekable(), file.writable()] == [True, True, False]
