"""Reads the files of a chunk store: specs/chunk-index.md, chunk-pack.md and chunk-store.md.

Usage: python3 chunks.py FILE...
"""

from coldframe import Envelope, Layout, blake3, need, run

IMAGE, ROW = Layout("chunk-index.md", "image"), Layout("chunk-index.md", "index row")
PAGE, ORIGIN = Layout("chunk-index.md", "index page row"), Layout("chunk-index.md", "origin")
PART, CHUNK = Layout("chunk-index.md", "index part"), Layout("chunk-pack.md", "chunk row")
TAG, DISK = Layout("chunk-store.md", "tag"), Layout("chunk-store.md", "tag disk")
WRITER, ROUND = Layout("chunk-store.md", "tag writer"), Layout("chunk-store.md", "ledger round")
LEASE = Layout("chunk-store.md", "ledger lease")
CONDEMNED = Layout("chunk-store.md", "condemned file")
DAMAGED, KNOWN = Layout("chunk-store.md", "damaged chunk"), Layout("chunk-store.md", "known tag")
KEPT = Layout("chunk-store.md", "known file")
ROWS_PER_PAGE = 1024


def index(file):
    rows, pages = file.find("ROWS"), PAGE.rows(file.find("PAGE"))
    step = ROWS_PER_PAGE * ROW.size
    need(len(pages) == -(-len(rows) // step), "pages of rows (CIDX-7)")
    for number, page in enumerate(pages):
        body = rows[number * step : (number + 1) * step]
        need(blake3(body).hex() == page["hash"], f"hash of page {number} of rows")
    kind = next((kind for kind in ("PRNT", "BASE") if file.find(kind)), None)
    origin = {"kind": kind, **ORIGIN.read(file.find(kind))} if kind else None
    return {
        **IMAGE.read(file.find("IMAG")),
        "origin": origin,
        "rows": ROW.rows(rows),
        "parts": PART.rows(file.find("PART") or b""),
    }


def lz4(data, length):
    """One block of LZ4."""
    out, at = bytearray(), 0
    while at < len(data):
        token, at = data[at], at + 1
        literals, at = extended(data, at, token >> 4)
        out += data[at : at + literals]
        at += literals
        if at == len(data):
            break
        offset, at = int.from_bytes(data[at : at + 2], "little"), at + 2
        size, at = extended(data, at, token & 15)
        need(0 < offset <= len(out), "an offset of LZ4")
        for _ in range(size + 4):
            out.append(out[-offset])
        need(len(out) <= length, "more bytes than the row says")
    return bytes(out)


def extended(data, at, length):
    if length == 15:
        while True:
            length, at = length + data[at], at + 1
            if data[at - 1] != 255:
                break
    return length, at


def zstd(data):
    """A frame of Zstandard; None if a block is compressed and Python has no decoder."""
    need(data[:4] == bytes.fromhex("28b52ffd"), "a frame of Zstandard")
    flags = data[4]
    single = flags >> 5 & 1
    size = [single, 2, 4, 8][flags >> 6]
    at, out, is_last = 5 + (1 - single) + [0, 1, 2, 4][flags & 3] + size, b"", False
    while not is_last:
        head, at = int.from_bytes(data[at : at + 3], "little"), at + 3
        is_last, kind, length = head & 1, head >> 1 & 3, head >> 3
        if kind == 2:
            return library_zstd(data)
        out += data[at : at + length] if kind == 0 else data[at : at + 1] * length
        at += length if kind == 0 else 1
    return out


def library_zstd(data):
    try:
        from compression import zstd as library  # Python 3.14
    except ImportError:
        return None
    return library.decompress(data)


def chunk(file, row):
    """Whether the bytes of a chunk are those of its id; None if nothing here can tell."""
    data = file.range(row["offset"], row["stored_len"])
    if row["compression"] == "LZ4":
        data = lz4(data, row["raw_len"])
    elif row["compression"] == "Zstandard":
        data = zstd(data)
    if data is None:
        return None
    sound = len(data) == row["raw_len"] and blake3(data).hex() == row["id"]
    need(sound, f"chunk {row['id']} (PACK-12)")
    return True


def pack(file):
    rows = CHUNK.rows(file.find("CHNK"))
    end = 160
    for row in sorted(rows, key=lambda row: row["offset"]):
        need(row["offset"] == end, "places of the chunks (PACK-5)")
        end += row["stored_len"]
    need([row["id"] for row in rows] == sorted({row["id"] for row in rows}), "order (PACK-4)")
    return {"chunks": [{**row, "sound": chunk(file, row)} for row in rows]}


def tag(file):
    disk, writer = file.find("DISK"), file.find("WLOG")
    values = TAG.read(file.find("TAGR"))
    values.update(disk=DISK.read(disk)["id"] if disk else None, log=None)
    if writer:
        head = WRITER.read(writer)
        host_end = WRITER.size + head["host_len"]
        need(host_end + head["path_len"] == len(writer), "the path ends the section")
        host, path = writer[WRITER.size : host_end], writer[host_end:]
        values["log"] = {"id": head["log"], "host": host.hex(), "path": path.hex()}
    return values


def ledger(file):
    names = KNOWN.rows(file.find("NAME") or b"")
    return {
        "rounds": ROUND.rows(file.find("ROUN")),
        "leases": LEASE.rows(file.find("WAIT")),
        "condemned": CONDEMNED.rows(file.find("COND")),
        "damaged": DAMAGED.rows(file.find("DAMG")),
        "files": KEPT.rows(file.find("FILE") or b""),
        "names": [bytes.fromhex(row["name"])[: row["len"]].decode() for row in names],
    }


READ = {"CIDX": index, "PACK": pack, "CTAG": tag, "LEDG": ledger, "STOR": lambda file: {}}


def read(data):
    """A file of a store as plain values."""
    file = Envelope(data)
    need(file.header["format"] in READ, f"foreign: {file.header['format']}")
    need(file.header["major"] == 1, "unsupported")
    return file.report(READ[file.header["format"]](file))


if __name__ == "__main__":
    run(read)
