"""What all readers share: the tables of the spec pages, BLAKE3, XXH3-128 and the envelope.

The readers take layouts from the pages themselves: a structure is read as the table under its
heading says. So a page that is wrong makes a reader that is wrong, and a test tells.

Usage: python3 coldframe.py FILE    prints the envelope of any coldframe file as JSON.
"""

import json
import pathlib
import re
import sys

SPECS = pathlib.Path(__file__).resolve().parent.parent
MASK64 = (1 << 64) - 1
MASK32 = (1 << 32) - 1


class Refused(Exception):
    """The file is not what the spec allows."""


def need(condition, what):
    """Refuses the file unless `condition` holds."""
    if not condition:
        raise Refused(what)


# ---- The tables of the pages ------------------------------------------------------------------


def tables(page):
    """All tables of a page, by heading: lists of rows, each a dict by column."""
    found, heading, columns = {}, "", None
    for line in (SPECS / page).read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        if not line.startswith("|"):
            columns = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if columns is None:
            columns = cells
        elif not set("".join(cells)) <= set("-:"):
            found.setdefault(heading, []).append(dict(zip(columns, cells)))
    return found


def names_of(rule):
    """`0 none, 1 x86_64, 2 aarch64` as a dict; nothing for a rule of another kind."""
    rule = rule.split(": ")[-1].split(";")[0]
    pairs = [re.fullmatch(r"(\d+) (?!to |or )([A-Za-z][\w ]*)", part) for part in rule.split(", ")]
    is_list = len(pairs) > 1 and all(pairs)
    return {int(pair[1]): pair[2] for pair in pairs} if is_list else {}


class Layout:
    """A structure of fixed layout, as the table under `### Layout: NAME` has it."""

    def __init__(self, page, name, heading="Layout: "):
        self.name = name
        self.fields, self.size = [], 0
        for row in tables(page)[heading + name]:
            at, size = int(row["offset"]), int(row["size"])
            need(at == self.size, f"the table of {name} has a gap at {at}")
            self.fields.append((row["field"].strip("`"), at, size, row["type"], row["rule"]))
            self.size = at + size

    def offset(self, field):
        """Where a field begins."""
        return next(at for name, at, *_ in self.fields if name == field)

    def read(self, data, start=0):
        """The fields at `start`; those that must be zero are checked and left out."""
        need(len(data) >= start + self.size, f"truncated: no {self.name} at {start}")
        values = {}
        for name, at, size, kind, rule in self.fields:
            raw = bytes(data[start + at : start + at + size])
            if rule == "zero" or name == "padding":
                need(not any(raw), f"{self.name}: {name} is not zero")
            elif kind[0] in "ui" and kind[1:].isdigit():
                number = int.from_bytes(raw, "little", signed=kind[0] == "i")
                names = names_of(rule)
                need(not names or number in names, f"{self.name}: {name} {number}")
                values[name] = names.get(number, number)
            elif kind in ("ASCII", "UTF-8"):
                values[name] = padded_text(raw)
            else:
                values[name] = raw.hex()
        return values

    def rows(self, data):
        """All of `data` as rows of this layout."""
        need(len(data) % self.size == 0, f"not a whole number of rows: {self.name}")
        return [self.read(data, at) for at in range(0, len(data), self.size)]


def padded_text(raw):
    """Text that is padded with zero bytes."""
    text, _, rest = raw.partition(b"\0")
    need(not any(rest), "text is not padded with zeros")
    return text.decode()


# ---- BLAKE3 -----------------------------------------------------------------------------------

IV = [
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
    0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
]
PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
CHUNK_START, CHUNK_END, PARENT, ROOT, CONTEXT, MATERIAL = 1, 2, 4, 8, 32, 64
LANES = [
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
]


def rotate_right(word, by):
    return ((word >> by) | (word << (32 - by))) & MASK32


def compress(chain, block, counter, length, flags):
    state = chain + IV[:4] + [counter & MASK32, counter >> 32, length, flags]
    for _ in range(7):
        for number, (a, b, c, d) in enumerate(LANES):
            for word, first, second in ((0, 16, 12), (1, 8, 7)):
                state[a] = (state[a] + state[b] + block[2 * number + word]) & MASK32
                state[d] = rotate_right(state[d] ^ state[a], first)
                state[c] = (state[c] + state[d]) & MASK32
                state[b] = rotate_right(state[b] ^ state[c], second)
        block = [block[index] for index in PERMUTATION]
    low = [a ^ b for a, b in zip(state[:8], state[8:])]
    return low + [a ^ b for a, b in zip(state[8:], chain)]


def words_of(data):
    data = bytes(data).ljust(64, b"\0")
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, 64, 4)]


def chunk_node(data, key, counter, flags):
    """The last compression of a chunk, not yet made."""
    chain, flags = key, flags | CHUNK_START
    while len(data) > 64:
        chain = compress(chain, words_of(data[:64]), counter, 64, flags)[:8]
        data, flags = data[64:], flags & ~CHUNK_START
    return chain, words_of(data), counter, len(data), flags | CHUNK_END


def tree_node(data, key, counter, flags):
    if len(data) <= 1024:
        return chunk_node(data, key, counter, flags)
    chunks = (len(data) - 1) // 1024
    left = 1 << (chunks.bit_length() - 1)
    first = tree_node(data[: left * 1024], key, counter, flags)
    second = tree_node(data[left * 1024 :], key, counter + left, flags)
    block = compress(*first)[:8] + compress(*second)[:8]
    return key, block, 0, 64, flags | PARENT


def blake3(data, length=32, key=None, flags=0):
    """The BLAKE3 hash of `data`, `length` bytes of it."""
    chain, block, counter, size, flags = tree_node(data, key or IV, 0, flags)
    out = b""
    for part in range((length + 63) // 64):
        counter = part
        words = compress(chain, block, counter, size, flags | ROOT)
        out += b"".join(word.to_bytes(4, "little") for word in words)
    return out[:length]


def blake3_derive(context, material, length=32):
    """BLAKE3 in key-derivation mode."""
    key = words_of(blake3(context.encode(), flags=CONTEXT))[:8]
    return blake3(material, length, key, MATERIAL)


# ---- XXH3, 128 bits ---------------------------------------------------------------------------

P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
MX1, MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
DEFAULT_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)


def u64(data, at):
    return int.from_bytes(data[at : at + 8], "little")


def u32(data, at):
    return int.from_bytes(data[at : at + 4], "little")


def fold(a, b):
    product = a * b
    return (product & MASK64) ^ (product >> 64)


def swap(value, size):
    return int.from_bytes(value.to_bytes(size, "little"), "big")


def avalanche(hash_):
    hash_ ^= hash_ >> 37
    hash_ = hash_ * MX1 & MASK64
    return hash_ ^ hash_ >> 32


def avalanche_xxh64(hash_):
    hash_ ^= hash_ >> 33
    hash_ = hash_ * P64_2 & MASK64
    hash_ ^= hash_ >> 29
    hash_ = hash_ * P64_3 & MASK64
    return hash_ ^ hash_ >> 32


def joined(low, high):
    return (low & MASK64).to_bytes(8, "little") + (high & MASK64).to_bytes(8, "little")


def short_hash(data, seed):
    """At most 16 bytes."""
    secret, size = DEFAULT_SECRET, len(data)
    if size > 8:
        flip_low = (u64(secret, 32) ^ u64(secret, 40)) - seed & MASK64
        flip_high = (u64(secret, 48) ^ u64(secret, 56)) + seed & MASK64
        low, high = u64(data, 0), u64(data, size - 8)
        product = (low ^ high ^ flip_low) * P64_1
        mixed_low = (product & MASK64) + (size - 1 << 54) & MASK64
        high ^= flip_high
        mixed_high = (product >> 64) + high + (high & MASK32) * (P32_2 - 1) & MASK64
        mixed_low ^= swap(mixed_high, 8)
        product = mixed_low * P64_2
        top = (product >> 64) + mixed_high * P64_2
        return joined(avalanche(product & MASK64), avalanche(top & MASK64))
    if size >= 4:
        seed ^= swap(seed & MASK32, 4) << 32
        word = u32(data, 0) + (u32(data, size - 4) << 32)
        keyed = word ^ ((u64(secret, 16) ^ u64(secret, 24)) + seed & MASK64)
        product = keyed * (P64_1 + (size << 2))
        low, high = product & MASK64, product >> 64
        high = high + (low << 1) & MASK64
        low ^= high >> 3
        low ^= low >> 35
        low = low * MX2 & MASK64
        return joined(low ^ low >> 28, avalanche(high))
    if size:
        word = data[0] << 16 | data[size >> 1] << 24 | data[size - 1] | size << 8
        other = swap(word, 4)
        other = (other << 13 | other >> 19) & MASK32
        low = word ^ ((u32(secret, 0) ^ u32(secret, 4)) + seed & MASK64)
        high = other ^ ((u32(secret, 8) ^ u32(secret, 12)) - seed & MASK64)
        return joined(avalanche_xxh64(low), avalanche_xxh64(high))
    low = avalanche_xxh64(seed ^ u64(secret, 64) ^ u64(secret, 72))
    return joined(low, avalanche_xxh64(seed ^ u64(secret, 80) ^ u64(secret, 88)))


def mix16(data, at, secret, key, seed):
    low = u64(data, at) ^ (u64(secret, key) + seed & MASK64)
    return fold(low, u64(data, at + 8) ^ (u64(secret, key + 8) - seed & MASK64))


def mix32(sums, data, first, second, key, seed):
    low, high = sums
    low = low + mix16(data, first, DEFAULT_SECRET, key, seed) & MASK64
    low ^= u64(data, second) + u64(data, second + 8) & MASK64
    high = high + mix16(data, second, DEFAULT_SECRET, key + 16, seed) & MASK64
    high ^= u64(data, first) + u64(data, first + 8) & MASK64
    return low, high


def middle_hash(data, seed):
    """17 to 240 bytes."""
    size = len(data)
    sums = (size * P64_1 & MASK64, 0)
    if size <= 128:
        for number in range((size - 1) // 32, -1, -1):
            at = 16 * number
            sums = mix32(sums, data, at, size - 16 - at, 2 * at, seed)
    else:
        for at in range(0, 128, 32):
            sums = mix32(sums, data, at, at + 16, at, seed)
        sums = (avalanche(sums[0]), avalanche(sums[1]))
        for at in range(128, size // 32 * 32, 32):
            sums = mix32(sums, data, at, at + 16, at - 128 + 3, seed)
        sums = mix32(sums, data, size - 16, size - 32, 136 - 17 - 16, -seed & MASK64)
    low = sums[0] + sums[1] & MASK64
    high = sums[0] * P64_1 + sums[1] * P64_4 + (size - seed) * P64_2 & MASK64
    return joined(avalanche(low), -avalanche(high))


def accumulate(sums, data, at, secret, key):
    for lane in range(8):
        word = u64(data, at + 8 * lane)
        keyed = word ^ u64(secret, key + 8 * lane)
        sums[lane ^ 1] = sums[lane ^ 1] + word & MASK64
        sums[lane] = sums[lane] + (keyed & MASK32) * (keyed >> 32) & MASK64


def merge(sums, secret, key, start):
    total = start
    for pair in range(4):
        low = sums[2 * pair] ^ u64(secret, key + 16 * pair)
        total += fold(low, sums[2 * pair + 1] ^ u64(secret, key + 16 * pair + 8))
    return avalanche(total & MASK64)


def long_hash(data, secret):
    """More than 240 bytes."""
    sums = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    size, stripes = len(data), (len(secret) - 64) // 8
    for number in range((size - 1) // 64):
        accumulate(sums, data, 64 * number, secret, number % stripes * 8)
        if number % stripes == stripes - 1:
            for lane in range(8):
                value = sums[lane] ^ sums[lane] >> 47 ^ u64(secret, len(secret) - 64 + 8 * lane)
                sums[lane] = value * P32_1 & MASK64
    accumulate(sums, data, size - 64, secret, len(secret) - 64 - 7)
    low = merge(sums, secret, 11, size * P64_1 & MASK64)
    high = merge(sums, secret, len(secret) - 64 - 11, ~(size * P64_2) & MASK64)
    return joined(low, high)


class RecordKey:
    """The key of records: seed and secret, from BLAKE3 over the id of the region or part."""

    def __init__(self, context, id_):
        stream = blake3_derive(context, id_, 200)
        self.seed, self.secret = u64(stream, 0), stream[8:]

    def digest(self, data):
        """128 bits of XXH3: the seed counts up to 240 bytes, the secret beyond."""
        if len(data) > 240:
            return long_hash(data, self.secret)
        return (short_hash if len(data) <= 16 else middle_hash)(data, self.seed)


# ---- The envelope -----------------------------------------------------------------------------

HEADER = Layout("envelope.md", "envelope header")
SECTION = Layout("envelope.md", "section row")
MAGIC = bytes.fromhex("894346520d0a1a0a")


class Envelope:
    """A coldframe file; header, table, bodies and padding are checked.

    `skip` is how many bytes behind the header are not there: those of a skeleton (MEM-25).
    """

    def __init__(self, data, skip=0):
        self.data, self.skip = data, skip
        need(data[:8] == MAGIC, "foreign: no coldframe file")
        head = HEADER.read(data)
        at = HEADER.offset("checksum")
        need(blake3(data[:at])[:8].hex() == head["checksum"], "header checksum")
        need(len(data) + skip == head["file_len"], "another length than the header says")
        self.header = head
        self.root = blake3(data[: HEADER.size]).hex()
        table = self.range(head["table_offset"], head["section_count"] * SECTION.size)
        need(blake3(table).hex() == head["table_hash"], "hash of the section table")
        self.sections = SECTION.rows(table)
        parts = [(head["table_offset"], len(table), "the table")]
        for row in self.sections:
            name, flags = row["kind"], row["flags"]
            need(flags in (0, 1, 3), f"flags of section {name}")
            sound = flags == 3 or blake3(self.body(row)).hex() == row["hash"]
            need(sound, f"hash of section {name}")
            parts.append((row["offset"], row["len"], f"section {name}"))
        end = HEADER.size
        for offset, length, name in sorted(parts):
            need(offset >= end, f"{name} overlaps what is before it")
            need(skip or not any(data[end:offset]), f"padding before {name}")
            end = offset + length
        need(end == head["file_len"], "bytes behind the last part")

    def range(self, offset, length):
        """Bytes of the file, by their place in the whole file."""
        at = offset - (self.skip if offset >= HEADER.size else 0)
        need(HEADER.size <= at and at + length <= len(self.data), f"no {length} bytes at {offset}")
        return self.data[at : at + length]

    def body(self, row):
        """The body of a section."""
        return self.range(row["offset"], row["len"])

    def find(self, kind, instance=0):
        """The body of this section, or None."""
        for row in self.sections:
            if (row["kind"], row["instance"]) == (kind, instance):
                return self.body(row)
        return None

    def expect(self, format_, majors=(1,)):
        """Refuses another format or major version."""
        need(self.header["format"] == format_, f"foreign: {self.header['format']}")
        need(self.header["major"] in majors, f"unsupported: {self.header['major']}")
        return self

    def report(self, content=None):
        """All of it as plain values, with what the format has in it."""
        hidden = ("magic", "checksum", "table_hash")
        header = {name: value for name, value in self.header.items() if name not in hidden}
        report = {"root": self.root, "header": header, "sections": self.sections}
        return {**report, "content": content} if content is not None else report


def run(read):
    """Prints what `read` makes of each file that the command line names, one JSON a line."""
    failed = False
    for path in sys.argv[1:]:
        try:
            print(json.dumps(read(pathlib.Path(path).read_bytes())))
        except (Refused, ValueError, IndexError, KeyError) as error:
            print(json.dumps({"refused": f"{type(error).__name__}: {error}"}))
            failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    run(lambda data: Envelope(data).report())
