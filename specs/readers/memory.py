"""Reads the guest-memory file, or its skeleton (MEM-25): specs/memfile.md.

With the pages there, every byte of them is checked.

Usage: python3 memory.py FILE...
"""

from coldframe import HEADER, Envelope, Layout, blake3, need, run

PAGE = "memfile.md"
REGION, PARENT = Layout(PAGE, "region row"), Layout(PAGE, "parent")
EXTENT, BLOCK = Layout(PAGE, "extent row"), Layout(PAGE, "block row")
BLOCK_PAGE, ABSENT = Layout(PAGE, "block page row"), Layout(PAGE, "absent row")
BLOCK_BYTES, ROWS_PER_HASH = 65536, 1024


def open_file(data):
    """The file, or its skeleton: then what the header says is there lies elsewhere."""
    length = HEADER.read(data)["file_len"]
    return Envelope(data, length - len(data)).expect("MEMF")


def check_hashes(file, blocks):
    rows, hashes = file.find("BLKS"), BLOCK_PAGE.rows(file.find("BPAG"))
    step = ROWS_PER_HASH * BLOCK.size
    need(len(hashes) == -(-len(blocks) // ROWS_PER_HASH), "rows of BPAG")
    for number, row in enumerate(hashes):
        page = rows[number * step : (number + 1) * step]
        need(blake3(page).hex() == row["hash"], f"hash of page {number} of BLKS")


def check_blocks(file, page_size, extents, blocks):
    """The hash of each block (MEM-18), with the pages of this file."""
    pages = {}
    for extent in extents:
        for index in range(extent["page_count"]):
            at = extent["file_offset"] + index * page_size
            pages[extent["ram_page"] + index] = None if extent["kind"] == "zero" else at
    for row in blocks:
        start, data = row["block"] * BLOCK_BYTES, b""
        for page in range(start // page_size, -(-(start + BLOCK_BYTES) // page_size)):
            low = max(start, page * page_size)
            high = min(start + BLOCK_BYTES, (page + 1) * page_size)
            if pages.get(page) is not None:
                at = pages[page] + low - page * page_size
                data += file.range(at, high - low)
            elif page in pages and row["covers"] == "whole":
                data += bytes(high - low)
        need(blake3(data).hex() == row["hash"], f"hash of block {row['block']}")


def read(data):
    """A memory file as plain values: its tables, not its pages."""
    file = open_file(data)
    page_size = 1 << file.header["page_size_log2"]
    is_diff = file.header["flags"] & 1
    regions, extents = REGION.rows(file.find("REGN")), EXTENT.rows(file.find("EXTN"))
    blocks, parent = BLOCK.rows(file.find("BLKS")), file.find("PRNT")
    need((parent is not None) == bool(is_diff), "parent (MEM-3)")
    [first] = [row for row in file.sections if row["kind"] == "DATA"]
    packed = first["offset"]
    for extent in extents:
        if extent["kind"] == "zero":
            expected = 0
        elif is_diff:
            expected, packed = packed, packed + extent["page_count"] * page_size
        else:
            expected = first["offset"] + extent["ram_page"] * page_size
        need(extent["file_offset"] == expected, "place of an extent (MEM-13)")
    check_hashes(file, blocks)
    if file.skip == 0:
        check_blocks(file, page_size, extents, blocks)
    return file.report(
        {
            "parent": PARENT.read(parent)["root"] if is_diff else None,
            "regions": regions,
            "extents": extents,
            "blocks": blocks,
            "absent": ABSENT.rows(file.find("ABSN") or b""),
        }
    )


if __name__ == "__main__":
    run(read)
