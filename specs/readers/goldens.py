"""Reads golden files for the tests: lines `SHAPE PATH` in, one line of JSON out for each.

Some goldens are parts of files; their shapes are told here, and nowhere else.
"""

import json
import pathlib
import sys

import block
import chunks
import coldframe
import journal
import manifest
import memory
import ring
import state


def ring_parts(data):
    """A control block, then the ring."""
    return ring.log(ring.control_block(data[:128]), data[128:])


def block_record(data):
    """The payload of a record; of a write, what is before the end of its page."""
    return block.read(data.ljust(24 + 4096, b"\0") if data[0] == 2 else data)


def entries(data):
    """Entries, each behind its type and length as u16."""
    at, found = 0, []
    while at < len(data):
        end = at + 4 + journal.integer(data[at + 2 : at + 4])
        found.append(journal.entry(journal.integer(data[at : at + 2]), data[at + 4 : end]))
        at = end
    return found


READ = {
    "envelope": lambda data: coldframe.Envelope(data).report(),
    "STAT": state.read,
    "MANI": manifest.read,
    "CHLD": manifest.read,
    "MEMF": memory.read,
    "CIDX": chunks.read,
    "PACK": chunks.read,
    "CTAG": chunks.read,
    "LEDG": chunks.read,
    "STOR": chunks.read,
    "journal": journal.read,
    "entries": entries,
    "ring": ring_parts,
    "owner-note": ring.owner_note,
    "user-note": ring.user_note,
    "block": block_record,
}

for line in sys.stdin:
    shape, path = line.rstrip("\n").split(" ", 1)
    try:
        value = READ[shape](pathlib.Path(path).read_bytes())
    except (coldframe.Refused, ValueError, IndexError, KeyError) as error:
        value = {"refused": f"{type(error).__name__}: {error}"}
    print(json.dumps(value), flush=True)
