//! What the crates read in files that are envelopes.

use anyhow::{Context, Result, bail};
use coldframe_chunkfile::{
    Compression, CondemnedFile, INDEX_LIMITS, Index, IndexOrigin, Ledger, Pack, PartSource,
    TagFile, TagKind,
};
use coldframe_envelope::{Header, Limits, SectionKind, SectionTable};
use coldframe_hv::ItemKind;
use coldframe_manifest::{ChildNote, Manifest, SnapshotKind};
use coldframe_memfile::{Content, MemFile};
use coldframe_statefile::StateFile;
use coldframe_statefile::schema::v1::{DeviceV1, HostV1, MachineV1, MetadataV1, VcpuV1};
use serde_json::{Value, json};

use super::hex;

type Items = [(u32, Vec<u8>)];

/// The format of an envelope; `None` if it is none.
pub fn format_of(bytes: &[u8]) -> Option<String> {
    Header::peek(bytes).ok().map(|header| text(header.format))
}

/// A file that is an envelope.
pub fn read(format: &str, bytes: &[u8]) -> Result<Value> {
    let mut report = envelope(bytes)?;
    let content = match format {
        "envelope" => return Ok(report),
        "STAT" => state(bytes)?,
        "MANI" => manifest(bytes)?,
        "CHLD" => {
            let (note, _) = ChildNote::decode(bytes)?;
            json!({"parent": hex(note.parent.as_bytes()), "path": hex(&note.dir)})
        }
        "MEMF" => memory(bytes)?,
        "CIDX" => index(bytes)?,
        "PACK" => pack(bytes)?,
        "CTAG" => tag(bytes)?,
        "LEDG" => ledger(bytes)?,
        other => bail!("no reader for {other}"),
    };
    report["content"] = content;
    Ok(report)
}

fn text(kind: SectionKind) -> String {
    String::from_utf8_lossy(&kind.bytes()).into_owned()
}

/// Header and section table, also of a skeleton.
fn envelope(bytes: &[u8]) -> Result<Value> {
    let header = Header::peek(bytes)?;
    let skip = header.file_len - bytes.len() as u64;
    let table = usize::try_from(header.table_offset - skip)?;
    let table = bytes.get(table..).context("no table")?;
    let table = table
        .get(..header.section_count as usize * 64)
        .context("no table")?;
    let table = SectionTable::decode(&header, table, Limits::MEMORY_FILE)?;
    let sections = table.sections().iter().map(|row| {
        let [low, high] = [row.encode()[10], row.encode()[11]];
        json!({
            "kind": text(row.kind), "instance": row.instance, "version": row.version,
            "flags": u16::from_le_bytes([low, high]), "offset": row.offset, "len": row.len,
            "hash": hex(&row.hash),
        })
    });
    let codec = header.codec;
    Ok(json!({
        "root": hex(header.root().as_bytes()),
        "header": {
            "format": text(header.format),
            "major": header.version.major, "minor": header.version.minor,
            "arch": header.arch.map_or("none".to_owned(), |arch| arch.to_string()),
            "page_size_log2": header.page_size.map_or(0, |size| size.log2()),
            "flags": header.flags, "file_len": header.file_len,
            "table_offset": header.table_offset, "section_count": header.section_count,
            "codec": codec.name(), "codec_major": codec.release().major,
            "codec_minor": codec.release().minor, "producer": header.producer.as_str(),
        },
        "sections": sections.collect::<Vec<_>>(),
    }))
}

fn state(bytes: &[u8]) -> Result<Value> {
    let known: Vec<SectionKind> = [*b"rtcx", *b"note"].map(SectionKind::new).to_vec();
    let state = StateFile::decode(bytes, &known, Limits::SMALL_FILE)?;
    let vcpus = if state.has_machine() {
        state.vcpus()?
    } else {
        Vec::new()
    };
    let (mut vcpus, mut devices) = (vcpus.into_iter(), state.devices()?.into_iter());
    let mut bodies = Vec::new();
    for section in state.sections() {
        let (kind, instance) = (section.section.kind, section.section.instance);
        bodies.push(match &*text(kind) {
            "HOST" => host(&state.host()?),
            "MACH" => machine(&state.machine()?),
            "VCPU" => vcpu(&vcpus.next().context("no vCPU")?),
            "DEVC" => device(&devices.next().context("no device")?),
            "META" => metadata(&state.metadata()?.context("no metadata")?),
            _ => json!({"opaque": hex(state.opaque(kind, instance).context("none")?.body())}),
        });
    }
    Ok(json!(bodies))
}

fn hypervisor(code: u8) -> Value {
    match code {
        1 => json!("kvm"),
        2 => json!("hvf"),
        3 => json!("simulated"),
        other => json!(other),
    }
}

fn items(items: &Items) -> Vec<Value> {
    let named = |code| ItemKind::from_code(code).name();
    items
        .iter()
        .map(|(code, value)| json!([code, named(*code), hex(value)]))
        .collect()
}

fn host(host: &HostV1) -> Value {
    let cpuid = host.cpuid.iter().map(|row| {
        json!({
            "function": row.function, "index": row.index, "flags": row.flags, "eax": row.eax,
            "ebx": row.ebx, "ecx": row.ecx, "edx": row.edx,
        })
    });
    json!({
        "hypervisor": hypervisor(host.hypervisor), "vendor": host.vendor, "family": host.family,
        "model": host.model, "stepping": host.stepping, "brand": host.brand,
        "cpuid": cpuid.collect::<Vec<_>>(), "id_registers": host.id_registers,
        "msr_indexes": host.msr_indexes, "xsave_bytes": host.xsave_bytes,
        "tsc_khz": host.tsc_khz, "counter_hz": host.counter_hz,
        "capabilities": host.capabilities, "kernel": host.kernel,
        "page_size_log2": host.page_size_log2,
    })
}

fn machine(machine: &MachineV1) -> Value {
    json!({
        "arch": machine.arch, "hypervisor": hypervisor(machine.hypervisor),
        "items": items(&machine.items),
    })
}

fn vcpu(vcpu: &VcpuV1) -> Value {
    let regs = vcpu
        .regs
        .iter()
        .map(|(code, value)| json!([code, hex(value)]));
    json!({
        "index": vcpu.index, "items": items(&vcpu.items), "msrs": vcpu.msrs,
        "regs": regs.collect::<Vec<_>>(),
    })
}

fn device(device: &DeviceV1) -> Value {
    json!({
        "kind": device.kind, "instance": device.instance, "version": device.version,
        "bytes": hex(&device.bytes),
    })
}

fn metadata(metadata: &MetadataV1) -> Value {
    json!({"json": metadata.json, "token_ttl_seconds": metadata.token_ttl_seconds})
}

fn manifest(bytes: &[u8]) -> Result<Value> {
    let (manifest, _) = Manifest::decode(bytes)?;
    let (parent_id, parent_root) = match manifest.kind {
        SnapshotKind::Full => ([0; 16], [0; 32]),
        SnapshotKind::Diff { parent } => (*parent.id.as_bytes(), *parent.root.as_bytes()),
    };
    let file = |file: &coldframe_manifest::FileRef| {
        let root = hex(file.root.as_bytes());
        json!({"len": file.len.get(), "root": root})
    };
    let regions = manifest.ram.regions().iter();
    let disks = manifest.disks.iter();
    Ok(json!({
        "identity": {
            "id": hex(manifest.id.as_bytes()),
            "kind": if manifest.parent().is_some() { "diff" } else { "full" },
            "created_seconds": manifest.created.seconds, "created_nanos": manifest.created.nanos,
            "parent_id": hex(&parent_id), "parent_root": hex(&parent_root),
        },
        "ram": regions.map(region).collect::<Vec<_>>(),
        "memory": file(&manifest.memory),
        "state": manifest.state.as_ref().map(file),
        "host": manifest.host.as_ref().map(|host| json!({
            "digest": hex(host.digest()), "hypervisor": host.hypervisor(), "cpu": host.cpu(),
            "kernel": host.kernel(),
        })),
        "disks": disks.map(|disk| json!({
            "index": hex(disk.index.as_bytes()), "name": disk.name,
        })).collect::<Vec<_>>(),
        "parent_name": manifest.parent_name.as_deref().map(hex),
        "labels": manifest.labels,
    }))
}

fn region(region: &coldframe_units::GuestRegion) -> Value {
    json!({"guest_addr": region.addr().get(), "len": region.len().get()})
}

fn memory(bytes: &[u8]) -> Result<Value> {
    let whole = Header::peek(bytes)?.file_len == bytes.len() as u64;
    let open = if whole {
        MemFile::open
    } else {
        MemFile::open_skeleton
    };
    let file = open(bytes, Limits::MEMORY_FILE)?;
    let extents = file.extents()?;
    let extents = extents.iter().map(|extent| {
        let (kind, file_offset) = match extent.content {
            Content::Data { file_offset } => ("data", file_offset.get()),
            Content::Zero => ("zero", 0),
        };
        json!({
            "ram_page": extent.run.start().get(), "page_count": extent.run.count(), "kind": kind,
            "file_offset": file_offset,
        })
    });
    let blocks = file.blocks()?;
    let blocks = blocks.iter_verified().map(|row| {
        let row = row?;
        let covers = if row.whole { "whole" } else { "part" };
        Ok(json!({"block": row.block, "hash": hex(&row.hash), "covers": covers}))
    });
    let absent = file.absent().iter();
    Ok(json!({
        "parent": file.parent_root().map(|root| hex(root.as_bytes())),
        "regions": file.layout().regions().iter().map(region).collect::<Vec<_>>(),
        "extents": extents.collect::<Vec<_>>(),
        "blocks": blocks.collect::<Result<Vec<_>>>()?,
        "absent": absent.map(|part| json!({
            "ram_offset": part.start.get(), "len": part.len.get(),
        })).collect::<Vec<_>>(),
    }))
}

fn index(bytes: &[u8]) -> Result<Value> {
    let index = Index::open(bytes, INDEX_LIMITS)?;
    let mut rows = Vec::new();
    for page in index.pages() {
        let start = usize::try_from(page.offset.get())?;
        let end = start + usize::try_from(page.len.get())?;
        let page = index.decode_page(&page, bytes.get(start..end).context("no page")?)?;
        rows.extend(page.rows().iter().map(|row| {
            let kind = if row.chunk.is_some() {
                "chunk"
            } else {
                "zeros"
            };
            let id = row.chunk.map_or([0; 32], |id| *id.as_bytes());
            json!({"block": row.block, "count": row.count, "kind": kind, "id": hex(&id)})
        }));
    }
    let parts = index.parts().iter().map(|part| {
        let (kind, len, id) = match part.source {
            PartSource::Chunk { id, len } => ("chunk", len, *id.as_bytes()),
            PartSource::Zero => ("zeros", 0, [0; 32]),
            PartSource::Origin { len } => ("origin", len, [0; 32]),
            PartSource::Lost => ("lost", 0, [0; 32]),
        };
        json!({
            "block": part.block, "pages": part.pages, "kind": kind, "len": len, "id": hex(&id),
        })
    });
    let origin = match index.origin() {
        IndexOrigin::None => Value::Null,
        IndexOrigin::Parent { root, size } => {
            json!({"kind": "PRNT", "id": hex(root.as_bytes()), "size": size.get()})
        }
        IndexOrigin::Base { id, size } => {
            json!({"kind": "BASE", "id": hex(id.as_bytes()), "size": size.get()})
        }
    };
    Ok(json!({
        "size": index.size().get(), "origin": origin, "rows": rows,
        "parts": parts.collect::<Vec<_>>(),
    }))
}

fn pack(bytes: &[u8]) -> Result<Value> {
    let pack = Pack::open(bytes, Limits::SMALL_FILE)?;
    let chunks = pack.chunks().iter().map(|chunk| {
        let compression = match chunk.compression {
            Compression::None => "none",
            Compression::Lz4 => "LZ4",
            Compression::Zstd => "Zstandard",
        };
        json!({
            "id": hex(chunk.id.as_bytes()), "offset": chunk.offset.get(),
            "stored_len": chunk.stored_len, "raw_len": chunk.raw_len,
            "compression": compression, "sound": true,
        })
    });
    Ok(json!({"chunks": chunks.collect::<Vec<_>>()}))
}

fn tag(bytes: &[u8]) -> Result<Value> {
    let TagFile { tag, place } = TagFile::decode(bytes)?;
    let kind = match tag.kind {
        TagKind::Index => "chunk index",
        TagKind::Snapshot => "snapshot",
    };
    let log = tag.log.zip(place).map(|(log, place)| {
        json!({"id": hex(log.as_bytes()), "host": hex(place.host()), "path": hex(place.path())})
    });
    Ok(json!({
        "root": hex(tag.root.as_bytes()), "kind": kind,
        "disk": tag.disk.map(|id| hex(id.as_bytes())), "log": log,
    }))
}

fn ledger(bytes: &[u8]) -> Result<Value> {
    let ledger = Ledger::decode(bytes)?;
    let rounds = ledger.rounds.iter().map(|(number, round)| {
        json!({"round": number, "is_scanned": u8::from(round.waits_for.is_some())})
    });
    let leases = ledger.rounds.iter().flat_map(|(number, round)| {
        let leases = round.waits_for.iter().flatten();
        leases.map(move |lease| json!({"round": number, "lease": lease}))
    });
    let condemned = ledger.condemned.iter().map(|(file, round)| {
        let (kind, root, number) = match file {
            CondemnedFile::Pack(number) => ("pack", [0; 32], *number),
            CondemnedFile::Root(root, number) => ("file by its root", *root.as_bytes(), *number),
        };
        json!({"kind": kind, "root": hex(&root), "file": number, "round": round})
    });
    let damaged = ledger.damaged.iter();
    Ok(json!({
        "rounds": rounds.collect::<Vec<_>>(), "leases": leases.collect::<Vec<_>>(),
        "condemned": condemned.collect::<Vec<_>>(),
        "damaged": damaged.map(|(id, pack)| json!({
            "id": hex(id.as_bytes()), "pack": pack,
        })).collect::<Vec<_>>(),
        "files": ledger.files.iter().map(|(root, file)| json!({
            "root": hex(root.as_bytes()), "file": file,
        })).collect::<Vec<_>>(),
        "names": ledger.names,
    }))
}
