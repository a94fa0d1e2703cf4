"""Reads the state file: specs/statefile.md, its codec by specs/bitcode.md, items by items.md.

Usage: python3 state.py FILE...
"""

import re

from coldframe import Envelope, need, run, tables

BODIES = {
    heading.removeprefix("Body: "): [(row["field"], row["type"]) for row in rows]
    for heading, rows in tables("statefile.md").items()
    if heading.startswith("Body: ")
}
SECTIONS = {
    row["kind"].strip("`"): row["body"].split("`")[1]
    for row in tables("statefile.md")["Sections"]
    if row["body"].startswith("`")
}
ITEMS = {int(row["number"], 16): row["name"] for row in tables("items.md")["Items"]}
HYPERVISORS = {int(row["code"]): row["name"] for row in tables("items.md")["Hypervisors"]}
CODECS = {tuple(row["release"].split(".")) for row in tables("statefile.md")["Codecs"]}
FACTORS = {1: 16, 2: 6, 3: 4, 4: 3, 5: 2}
PER_BYTE = {2: 8, 3: 5, 4: 4, 6: 3, 16: 2}


class Columns:
    """A body of bitcode, read column by column."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(count <= len(self.data) - self.at, "the body ends early")
        self.at += count
        return self.data[self.at - count : self.at]

    def arithmetic(self, count, factor):
        """Several values below `factor` in each byte, the first in the lowest place."""
        packed = self.take(-(-count // PER_BYTE[factor]))
        place = lambda index: factor ** (index % PER_BYTE[factor])
        return [packed[i // PER_BYTE[factor]] // place(i) % factor for i in range(count)]

    def small(self, count):
        """A column of bytes."""
        if count <= 2:
            return list(self.take(count))
        code = self.take(1)[0]
        if code == 0:
            return list(self.take(count))
        need(code <= 10, f"packing {code} of bytes")
        least = self.take(1)[0] if code % 2 else 0
        values = self.arithmetic(count, FACTORS[(code + 1) // 2])
        return [(value + least) & 0xFF for value in values]

    def numbers(self, count, size, signed=False):
        """A column of integers of `size` bytes."""
        if size == 1:
            return self.small(count)
        code, least, width = 0, 0, size
        if count and not (size == 2 and count == 1):
            code = self.take(1)[0]
            width = size >> (code + 1) // 2
            need(width, f"packing {code} of integers")
            least = int.from_bytes(self.take(size), "little") if code % 2 else 0
        if width == 1:
            values = self.small(count)
        else:
            raw = self.take(count * width)
            starts = range(0, len(raw), width)
            values = [int.from_bytes(raw[at : at + width], "little") for at in starts]
        bits = 8 * size
        values = [(value + least) & ((1 << bits) - 1) for value in values]
        return [value - (1 << bits) if signed and value >> bits - 1 else value for value in values]

    def lengths(self, count):
        small = self.small(count)
        large = iter(self.numbers(small.count(255), 8))
        return [next(large) if length == 255 else length for length in small]

    def column(self, kind, count):
        """`count` values of a type, as the table of a body names it."""
        if kind in ("text", "bytes"):
            lengths = self.lengths(count)
            total = sum(lengths)
            data = self.take(total) if kind == "text" else bytes(self.small(total))
            values = [data[end - size : end] for size, end in zip(lengths, ends_of(lengths))]
            return [v.decode() if kind == "text" else v.hex() for v in values]
        if kind.startswith("list of "):
            lengths = self.lengths(count)
            values = self.column(kind.removeprefix("list of "), sum(lengths))
            return [values[end - size : end] for size, end in zip(lengths, ends_of(lengths))]
        if kind.startswith("optional "):
            present = self.arithmetic(count, 2)
            values = iter(self.column(kind.removeprefix("optional "), sum(present)))
            return [next(values) if bit else None for bit in present]
        if kind.startswith("("):
            return list(map(list, zip(*[self.column(k, count) for k in kind[1:-1].split(", ")])))
        if kind in BODIES:
            columns = [self.column(field_kind, count) for _, field_kind in BODIES[kind]]
            names = [name for name, _ in BODIES[kind]]
            return [dict(zip(names, values)) for values in zip(*columns)]
        need(re.fullmatch(r"[ui]\d+", kind), f"no type {kind}")
        return self.numbers(count, int(kind[1:]) // 8, kind[0] == "i")


def ends_of(lengths):
    end, ends = 0, []
    for length in lengths:
        end += length
        ends.append(end)
    return ends


def decode(body, kind):
    """One body."""
    columns = Columns(body)
    [value] = columns.column(kind, 1)
    need(columns.at == len(body), f"bytes behind {kind}")
    return value


def named(value):
    """The same with the names of its codes."""
    if "hypervisor" in value:
        value["hypervisor"] = HYPERVISORS.get(value["hypervisor"], value["hypervisor"])
    if "items" in value:
        value["items"] = [[code, ITEMS.get(code), data] for code, data in value["items"]]
    return value


def rising(rows, key=lambda row: row[0]):
    keys = [key(row) for row in rows]
    return all(a < b for a, b in zip(keys, keys[1:]))


def read(data):
    """A state file as plain values."""
    file = Envelope(data).expect("STAT")
    head = file.header
    release = (str(head["codec_major"]), str(head["codec_minor"]))
    need(head["codec"] == "bitcode" and release in CODECS, "unsupported codec")
    need(head["arch"] != "none", "no architecture")
    bodies = []
    for row in file.sections:
        kind, body = row["kind"], file.body(row)
        if kind[0].islower():
            bodies.append({"opaque": body.hex()})
            continue
        need(kind in SECTIONS, f"unknown section {kind}")
        need(row["version"] == 1, f"version of {kind}")
        value = named(decode(body, SECTIONS[kind]))
        for name in ("items", "msrs", "regs", "id_registers", "capabilities"):
            need(rising(value.get(name, [])), f"{kind}: {name} do not rise (STATE-9)")
        bodies.append(value)
    return file.report(bodies)


if __name__ == "__main__":
    run(read)
