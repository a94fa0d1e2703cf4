"""Reads a journal: specs/journal.md, its entries by specs/journal-entries.md.

Usage: python3 journal.py FILE...

Entries of programs other than coldframe and minivmm are shown as they are. Records are read up to
the first that is not sound; how a journal ends is not judged.
"""

from coldframe import Layout, RecordKey, blake3, need, run, tables

PART = Layout("journal.md", "journal part header")
RECORD = Layout("journal.md", "journal record header")
ITEM = Layout("journal.md", "journal batch item")
ENTRIES_PAGE = "journal-entries.md"
ENTRIES = {
    int(row["type"], 16): Layout(ENTRIES_PAGE, "entry " + row["entry"].strip("`"))
    for row in tables(ENTRIES_PAGE)["Types"]
}
RECORDING = {
    int(row["type"], 16) | 0x8000: Layout(
        "minivmm.md", row["entry"].split("`")[1], "Entry layout: "
    )
    for row in tables("minivmm.md")["Recording"]
}
TRIGGERS = {int(row["value"]): row["trigger"] for row in tables(ENTRIES_PAGE)["Triggers"]}
MAGIC = "8943464a0d0a1a0a"
CONTEXT = "coldframe journal record v1"
BATCH, SEAL = 0xFFFE, 0x7FFF


def integer(data):
    return int.from_bytes(data, "little")


def pointed(payload, at, length):
    """The bytes that a relative pointer at `at` leads to."""
    start = at + int.from_bytes(payload[at : at + 4], "little", signed=True)
    need(0 <= start and start + length <= len(payload), "a pointer out of the payload")
    return payload[start : start + length]


def text(payload, at):
    """A text of 8 bytes: in place, or a length and a pointer."""
    if payload[at] & 0xC0 != 0x80:
        return payload[at : at + 8].partition(b"\xff")[0].decode()
    length = integer(payload[at : at + 4])
    length = length & 0x3F | (length >> 8) << 6
    start = at + int.from_bytes(payload[at + 4 : at + 8], "little", signed=True)
    need(0 <= start and start + length <= len(payload), "a text out of the payload")
    return payload[start : start + length].decode()


def value(payload, at, size, kind):
    """One field of an archive."""
    raw = payload[at : at + size]
    if kind == "text":
        return text(payload, at)
    if kind == "bytes by pointer":
        return pointed(payload, at, integer(payload[at + 4 : at + 8])).hex()
    if kind == "bool":
        need(raw[0] <= 1, "a bool")
        return raw[0] == 1
    if kind == "optional bytes":
        need(raw[0] <= 1, "an option")
        return raw[1:].hex() if raw[0] else None
    if kind == "trigger":
        return TRIGGERS[raw[0]]
    return raw.hex() if kind in ("bytes", "BLAKE3") else integer(raw)


def entry(type_, payload, schema=""):
    """The fields of an entry; its structure lies at the end of the payload."""
    layout = ENTRIES.get(type_) or (schema == "minivmm" and RECORDING.get(type_)) or None
    if layout is None:
        return {"type": type_, "payload": payload.hex()}
    root = len(payload) - layout.size
    need(root >= 0, f"{layout.name}: too short")
    fields = {
        name: value(payload, root + at, size, kind)
        for name, at, size, kind, _ in layout.fields
        if name != "padding"
    }
    return {"type": type_, "entry": layout.name.removeprefix("entry "), **fields}


def batch(payload, schema):
    """The entries of a batch."""
    at, found = 0, []
    while at < len(payload):
        item = ITEM.read(payload, at)
        at += ITEM.size
        found.append(entry(item["type"], payload[at : at + item["size"]], schema))
        at += -(-item["size"] // 16) * 16
    return found


def part(data, start):
    """One part: its header, its records, and where it ends."""
    head, at = PART.read(data, start), PART.offset("checksum")
    checksum = integer(blake3(data[start : start + at])[:4])
    need(head["magic"] == MAGIC and head["checksum"] == checksum, "the header of a part")
    need(head["major"] == 1, "unsupported")
    codec = (head["codec"], head["codec_major"], head["codec_minor"])
    need(codec == ("rkyv-le4", 0, 8), "unsupported codec")
    key = RecordKey(CONTEXT, bytes.fromhex(head["part_id"]))
    position, found = PART.size, []
    while start + position + RECORD.size <= len(data):
        raw = data[start + position : start + position + RECORD.size]
        record = RECORD.read(raw)
        covered = raw[:12] + raw[16:32] + position.to_bytes(8, "little")
        if record["type"] == 0 or integer(key.digest(covered)[:4]) != record["checksum"]:
            break
        body = start + position + RECORD.size
        payload = data[body : body + record["size"]]
        if key.digest(payload).hex() != record["digest"]:
            break
        if record["type"] == SEAL:
            inverted = bytes(byte ^ 0xFF for byte in data[start : start + PART.size])
            need(payload == inverted, "the payload of a seal")
            found.append({"type": SEAL, "entry": "seal"})
        elif record["type"] == BATCH:
            found.append({"type": BATCH, "batch": batch(payload, head["schema"])})
        else:
            found.append(entry(record["type"], payload, head["schema"]))
        position += RECORD.size + -(-record["size"] // 16) * 16
    shown = {name: head[name] for name in ("major", "minor", "schema", "part_id", "producer")}
    return {**shown, "records": found}, start + position


def read(data):
    """A journal as plain values."""
    parts, at = [], 0
    while data[at : at + 8].hex() == MAGIC:
        found, at = part(data, at)
        parts.append(found)
    return {"parts": parts, "end": at}


if __name__ == "__main__":
    run(read)
