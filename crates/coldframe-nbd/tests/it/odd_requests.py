"""Requests that libnbd itself would refuse, sent to the export at the URI given."""
import errno
import sys

import nbd

MIB = 1 << 20
uri = sys.argv[1]


def connect(structured=True):
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.set_request_structured_replies(structured)
    if structured:
        h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.connect_uri(uri)
    return h


def refused(name, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errno == name, (name, error)
    else:
        raise AssertionError(name)


h = connect()
end = h.get_size()
nothing = lambda *args: 0
refused("EINVAL", lambda: h.pread(4096, end - 512))
refused("ENOSPC", lambda: h.pwrite(bytes(4096), end - 512))
refused("EINVAL", lambda: h.trim(4096, end - 512))
refused("ENOSPC", lambda: h.zero(4096, end - 512))
refused("EINVAL", lambda: h.block_status(4096, end - 512, nothing))
refused("EINVAL", lambda: h.pread(512, 0, 1 << 15))
refused("EINVAL", lambda: h.pread(33 * MIB, 0))
refused("EINVAL", lambda: h.pwrite(bytes(33 * MIB), 0))
assert len(h.pread(512, 0, nbd.CMD_FLAG_FUA)) == 512
h.pread(0, 0)
h.trim(0, 0)
h.pwrite(b"x", 1)
h.pwrite(bytes(65536), 65536, nbd.CMD_FLAG_FUA)
h.zero(MIB, 0, nbd.CMD_FLAG_NO_HOLE)
h.zero(MIB, 0, nbd.CMD_FLAG_FAST_ZERO)
h.zero(MIB, 0)
h.trim(MIB, MIB)
h.pwrite(b"y" * 8192, 2 * MIB)

extents = []
h.block_status(4 * MIB, 0, lambda c, o, e, err: extents.append(list(e)))
assert extents == [[2 * MIB, 3, 8192, 0, 2 * MIB - 8192, 3]], extents
extents.clear()
h.block_status(
    4 * MIB, 0, lambda c, o, e, err: extents.append(list(e)), nbd.CMD_FLAG_REQ_ONE
)
assert extents == [[2 * MIB, 3]], extents

chunks = []
note = lambda buf, offset, status, err: chunks.append((offset, len(buf), status))
h.pread_structured(4 * MIB, 0, note)
assert sorted(status for _, _, status in chunks) == [1, 2, 2], chunks
chunks.clear()
h.pread_structured(4 * MIB, 0, note, nbd.CMD_FLAG_DF)
assert chunks == [(0, 4 * MIB, nbd.READ_DATA)], chunks
h.flush()
h.cache(MIB, 0)

plain = connect(structured=False)
refused("EINVAL", lambda: plain.block_status(4096, 0, nothing))
assert len(plain.pread(4096, 0)) == 4096
assert plain.pread(8192, 2 * MIB) == b"y" * 8192
print("all as they should be")
