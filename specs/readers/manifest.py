"""Reads the manifest of a snapshot and the note of a child: specs/manifest.md, specs/catalog.md.

Usage: python3 manifest.py FILE...
"""

from coldframe import Envelope, Layout, need, run

PAGE = "manifest.md"
IDENTITY, REGION = Layout(PAGE, "identity"), Layout(PAGE, "ram region row")
FILE, HOST = Layout(PAGE, "file reference"), Layout(PAGE, "host summary")
DISK, LABEL = Layout(PAGE, "disk row"), Layout(PAGE, "label head")
KNOWN = {"IDNT", "RAML", "FILE", "HOST", "DISK", "LABL", "PNAM"}


def labels(body):
    """The labels: head, key, value, one behind the other."""
    at, found = 0, {}
    while at < len(body):
        head = LABEL.read(body, at)
        at += LABEL.size
        end = at + head["key_len"] + head["value_len"]
        need(end <= len(body), "a label reaches behind the section")
        key = body[at : at + head["key_len"]].decode()
        need(not found or key > list(found)[-1], "labels do not rise (MANI-13)")
        found[key] = body[at + head["key_len"] : end].decode()
        at = end
    return found


def disk(row):
    need(len(row["name"].encode()) == row["name_len"], "the length of a disk's name")
    return {"index": row["index"], "name": row["name"]}


def manifest(file):
    for row in file.sections:
        must, known = row["flags"] & 1, row["kind"] in KNOWN
        need(known or not must, f"unknown section {row['kind']}")
        need(not known or row["version"] == 1, f"version of {row['kind']}")
    [identity] = IDENTITY.rows(file.find("IDNT"))
    has_parent = any(bytes.fromhex(identity["parent_id"] + identity["parent_root"]))
    need(has_parent == (identity["kind"] == "diff"), "parent (MANI-6)")
    state, host = file.find("FILE", 2), file.find("HOST")
    return {
        "identity": identity,
        "ram": REGION.rows(file.find("RAML")),
        "memory": FILE.read(file.find("FILE", 1)),
        "state": FILE.read(state) if state else None,
        "host": HOST.read(host) if host else None,
        "disks": [disk(row) for row in DISK.rows(file.find("DISK") or b"")],
        "parent_name": (file.find("PNAM") or b"").hex() or None,
        "labels": labels(file.find("LABL") or b""),
    }


def child(file):
    parent, path = file.find("PRNT"), file.find("PATH")
    need(len(parent) == 16 and path[:1] == b"/" and 0 not in path, "a child's note")
    return {"parent": parent.hex(), "path": path.hex()}


def read(data):
    """A manifest, or a note of a child, as plain values."""
    file = Envelope(data)
    if file.header["format"] == "CHLD":
        return file.report(child(file))
    return file.expect("MANI").report(manifest(file))


if __name__ == "__main__":
    run(read)
