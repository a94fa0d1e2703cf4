"""Reads a ring WAL: specs/ring-wal.md.

Usage: python3 ring.py FILE...     a region: control blocks at 0 and 4,096, the ring at 8,192

Offsets are those of the region. What ends the log, and whether it is damage, is not judged: the
records are read up to the first that is not sound.
"""

from coldframe import Layout, RecordKey, blake3, blake3_derive, need, run

CONTROL = Layout("ring-wal.md", "ring control block")
RECORD = Layout("ring-wal.md", "ring record header")
OWNER = Layout("ring-wal.md", "ring owner note")
NOTE = Layout("ring-wal.md", "ring user note")
SLOTS, RING = (0, 4096), 8192
CONTROL_MAGIC = "894346570d0a1a0a"
CONTROL_CONTEXT = "coldframe ring wal control v1"
RECORD_CONTEXT = "coldframe ring wal record v1"


def control_block(data):
    """A control block, or None."""
    if data[:8].hex() != CONTROL_MAGIC:
        return None
    block, at = CONTROL.read(data), CONTROL.offset("digest")
    zeroed = data[:at] + bytes(16)
    if blake3_derive(CONTROL_CONTEXT, zeroed, 16).hex() != block["digest"]:
        return None
    need(block["major"] == 1, f"unsupported: {block['major']}")
    return block


def owner_note(data):
    """The note of the writer, or None."""
    note, at = OWNER.read(data), OWNER.offset("checksum")
    zeroed = data[:at] + bytes(8)
    sound = note["magic"] == "CFWOWNER" and blake3(zeroed)[:8].hex() == note["checksum"]
    return {"pid": note["pid"], "program": note["program"]} if sound else None


def user_note(data):
    """The note of the log's user, or None."""
    head = NOTE.read(data)
    body = data[NOTE.size : NOTE.size + head["len"]]
    is_note = bytes.fromhex(head["magic"]) == b"CFWNOTE\0" and len(body) == head["len"]
    return body.hex() if is_note and blake3(body)[:8].hex() == head["checksum"] else None


def records(control, ring):
    """The sound records, from the tail on."""
    key = RecordKey(RECORD_CONTEXT, bytes.fromhex(control["region_id"]))
    position, sequence = control["tail_position"], control["tail_sequence"] + 1
    end, found = position + control["ring_len"], []

    def at(position, length):
        start = (position - control["base"]) % control["ring_len"]
        return (ring[start:] + ring[:start])[:length]

    while position + RECORD.size <= end:
        head = at(position, RECORD.size)
        if head[44] not in (1, 2) or any(head[46:48]):
            break
        record = RECORD.read(head)
        extent = RECORD.size + -(-record["length"] // 16) * 16
        is_due = (record["position"], record["sequence"]) == (position, sequence)
        if not is_due or position + extent > end:
            break
        whole = at(position, extent)
        if key.digest(whole[16:]).hex() != record["digest"]:
            break
        payload = whole[RECORD.size : RECORD.size + record["length"]]
        shown = {name: value for name, value in record.items() if name != "digest"}
        found.append({**shown, "payload": payload.hex()})
        sequence += record["unsynced"] if record["kind"] == "gap" else 1
        position += extent
    return found


def log(control, ring):
    need(control, "no control block holds")
    need(len(ring) >= control["ring_len"], "the ring is cut short")
    shown = {name: value for name, value in control.items() if name not in ("magic", "digest")}
    return {"control": shown, "records": records(control, ring[: control["ring_len"]])}


def read(data):
    """A region as plain values."""
    blocks = [control_block(data[at : at + CONTROL.size]) for at in SLOTS]
    newest = max(filter(None, blocks), key=lambda block: block["generation"], default=None)
    notes = {"owner": owner_note(data[512:]), "note": user_note(data[1024:4096])}
    return {**log(newest, data[RING:]), **notes}


if __name__ == "__main__":
    run(read)
