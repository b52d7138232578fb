import pickle
import random
import struct

import numpy as np
import pytest

from dfad_fast.data.cifar_pickle import read_pickle
from dfad_fast.errors import UsageError

PIXELS = np.arange(12, dtype=np.uint8).reshape(2, 6)


def python2_pickle() -> bytes:
    """{"data": PIXELS, "labels": [7, 9]} as Python 2 wrote it: text as bytes, NumPy's old paths."""

    def string(data: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(data)) + data

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + string(b"b") + b"tR"
        b"(K\x01(K\x02K\x06tcnumpy\ndtype\n(" + string(b"u1") + b"K\x00K\x01tR"
        b"(K\x03" + string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89" + string(PIXELS.tobytes()) + b"tb"
    )
    return b"\x80\x02}(" + string(b"data") + array + string(b"labels") + b"](K\x07K\x09eu."


class Call:
    """Pickled, an order to call `function` with `args`."""

    def __init__(self, function, *args):
        self.order = function, args

    def __reduce__(self):
        return self.order


@pytest.mark.filterwarnings("ignore:numpy.core is deprecated:DeprecationWarning")
def test_a_pickle_of_python_2_reads_as_the_plain_pickle_module_reads_it():
    blob = python2_pickle()
    plain = pickle.loads(blob, encoding="latin1")
    ours = read_pickle(blob, "batch")
    assert np.array_equal(plain["data"], PIXELS)
    assert np.array_equal(ours["data"], PIXELS)
    assert ours["labels"] == plain["labels"] == [7, 9]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("key", ["data", b"data"])
def test_pickles_of_python_3_read_back(protocol, order, key):
    blob = pickle.dumps({key: np.asarray(PIXELS, order=order)}, protocol)
    array = read_pickle(blob, "batch")["data"]
    assert array.dtype == np.uint8
    assert np.array_equal(array, PIXELS)


def test_a_pickle_that_would_run_code_runs_nothing(tmp_path, usage_error):
    marker = tmp_path / "marker"
    blob = pickle.dumps({"data": Call(exec, f"open({str(marker)!r}, 'w').close()")})
    pickle.loads(blob)
    assert marker.exists(), "the pickle must be able to do harm, or this test shows nothing"
    marker.unlink()
    with usage_error("batch", "exec"):
        read_pickle(blob, "batch")
    assert not marker.exists()


@pytest.mark.parametrize(
    "blob",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"\x80\x04\x8c\x0cos\nimport os\x8c\x06system\x93.",
        b"cnumpy\nload\n.",
        b"cfunctools\npartial\n.",
        b"ccopyreg\n_reconstructor\n.",
    ],
)
def test_every_other_name_is_refused_in_one_line(blob, usage_error):
    with usage_error("batch", "which no CIFAR file does"):
        read_pickle(blob, "batch")


def test_a_codec_other_than_the_one_for_bytes_is_refused(usage_error):
    with usage_error("batch", "rot13"):
        read_pickle(
            b"\x80\x02}(X\x04\x00\x00\x00datac_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tRu.",
            "batch",
        )


@pytest.mark.parametrize("name", [b"cnumpy\ndtype\n", b"c_codecs\nencode\n", b"cnumpy\nndarray\n"])
def test_a_pickle_cannot_change_what_the_next_one_meets(name):
    set_state = name + b"(N}S'__call__'\nI1\nstb."
    with pytest.raises(UsageError):
        read_pickle(set_state, "batch")
    assert np.array_equal(read_pickle(pickle.dumps({"data": PIXELS}, 2), "batch")["data"], PIXELS)


@pytest.mark.parametrize(
    ("blob", "part"),
    [
        (b"\x80\x02}r\xff\xff\xff\xff.", "numbers an object 4294967295"),
        (b"}p4294967295\n.", "numbers an object 4294967295"),
        (b"\x80\x05}\x96" + struct.pack("<Q", 2**36) + b"few bytes.", "but only 10 remain"),
    ],
)
def test_a_pickle_that_claims_more_than_it_holds_is_refused_before_memory_is_taken(blob, part, usage_error):
    with usage_error("batch", part):
        read_pickle(blob, "batch")


def test_arrays_of_other_types_are_refused(usage_error):
    with usage_error("batch", "'i8'"):
        read_pickle(pickle.dumps({"data": PIXELS.astype(np.int64)}, 2), "batch")
    with usage_error("batch", "'O8'"):
        read_pickle(pickle.dumps({"data": PIXELS.astype(object)}, 2), "batch")


def test_something_that_is_no_dictionary_is_refused(usage_error):
    with usage_error("batch", "list"):
        read_pickle(pickle.dumps([1]), "batch")


def test_every_cut_of_a_pickle_is_a_usage_error(usage_error):
    blob = python2_pickle()
    for length in range(len(blob)):
        with usage_error("batch"):
            read_pickle(blob[:length], "batch")


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_flipped_bytes_give_a_dictionary_or_a_usage_error_and_nothing_else():
    chance = random.Random(0)
    blob = python2_pickle()
    messages = []
    for _ in range(3000):
        damaged = bytearray(blob)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(blob))] = chance.randrange(256)
        try:
            assert isinstance(read_pickle(bytes(damaged), "batch"), dict)
        except UsageError as error:
            messages.append(str(error))
    assert len(messages) > 1000
    assert not any("\n" in message for message in messages)
