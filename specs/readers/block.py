"""Reads the payloads of a disk's log: specs/block.md. The log around them is read by ring.py.

Usage: python3 block.py FILE...    each file the payload of one record
"""

from coldframe import Layout, need, run

RECORD = Layout("block.md", "block record")
BASE, IDENTITY = Layout("block.md", "block base"), Layout("block.md", "block identity")
ATTACHMENT = Layout("block.md", "block attachment")


def read(data):
    """A record as plain values."""
    record, rest = RECORD.read(data), data[RECORD.size :]
    is_base = record["kind"] == "base"
    need(record["version"] == 1 or is_base and record["version"] == 2, "unsupported (BLK-40)")
    if is_base:
        record["root"] = BASE.read(rest)["root"]
        rest = rest[BASE.size :]
        if record["version"] == 2:
            record["identity"] = IDENTITY.read(rest)
            rest = rest[IDENTITY.size :]
        record["name"] = rest.decode("ascii")
    elif record["kind"] == "write":
        need(len(rest) == record["len"], "the length of the data (BLK-42)")
        record["data"] = rest.hex()
    else:
        need(not rest, "bytes behind the record (BLK-40)")
    return record


def attachment(note):
    """The note of a log about the store that opened it last."""
    return {**ATTACHMENT.read(note), "path": note[ATTACHMENT.size :].hex()}


if __name__ == "__main__":
    run(read)
