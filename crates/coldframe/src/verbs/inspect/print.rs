//! The report for people.

use super::machine::StateReport;
use super::report::{FileReport, ManifestReport, MemoryReport, Report, SnapshotReport};
use crate::human::{listed, size};
use crate::output;

/// Prints all of it.
pub fn report(report: &Report) {
    match report {
        Report::File(report) => file(report),
        Report::Snapshot(report) => snapshot(report),
    }
}

fn snapshot(report: &SnapshotReport) {
    output::say(format_args!("{}: snapshot directory", report.path));
    for (index, file_report) in report.files.values().enumerate() {
        if index > 0 {
            output::say(format_args!(""));
        }
        file(file_report);
    }
    for path in report.chain.iter().flatten() {
        output::say(format_args!("{path}: in the chain"));
    }
    for name in &report.strangers {
        output::say(format_args!("{name}: belongs to no snapshot"));
    }
    problem(report.problem.as_deref());
}

/// What a file is.
fn kind(report: &FileReport) -> &'static str {
    match report.format.as_deref() {
        Some("MANI") => "snapshot manifest",
        Some("STAT") => "machine state",
        Some("MEMF") => "guest memory",
        Some("RING") => "ring WAL",
        Some("JRNL") => "typed journal",
        Some("PACK") => "pack of chunks",
        Some("CIDX") => "chunk index",
        Some("CTAG") => "tag of a chunk store",
        Some("LEDG") => "ledger of a chunk store",
        Some("STOR") => "chunk store",
        Some("CHLD") => "note of a child in another directory",
        Some(_) => "coldframe file of an unknown format",
        None if report.is_cut => "coldframe file, cut short",
        None => "not a coldframe file",
    }
}

fn file(report: &FileReport) {
    if report.unread.is_some() {
        output::say(format_args!("{}: cannot be read", report.path));
        return problem(report.problem.as_deref());
    }
    let what = kind(report);
    output::say(format_args!(
        "{}: {what}, {}",
        report.path,
        size(report.file_len)
    ));
    let field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            output::say(format_args!("  {name:<12} {value}"));
        }
    };
    field("version", report.version.clone());
    field("producer", report.producer.clone());
    field("arch", report.arch.clone());
    field("page size", report.page_size.map(size));
    field("codec", report.codec.clone());
    field("root", report.root.clone());
    if let Some(manifest) = &report.manifest {
        print_manifest(manifest);
    }
    if let Some(state) = &report.state {
        print_state(state);
    }
    if let Some(memory) = &report.memory {
        print_memory(memory);
    }
    if let Some(wal) = &report.wal {
        wal.print_fields();
    }
    if let Some(journal) = &report.journal {
        journal.print_fields();
    }
    report.print_store();
    if let Some(child) = &report.child {
        output::say(format_args!("  {:<12} {}", "parent", child.parent));
        output::say(format_args!("  {:<12} {}", "children in", child.dir));
    }
    if !report.sections.is_empty() {
        let mut rows = vec![
            ["  section", "version", "must know", "offset", "bytes"]
                .map(String::from)
                .to_vec(),
        ];
        rows.extend(report.sections.iter().map(|row| {
            vec![
                format!("  {}.{}", row.kind, row.instance),
                row.version.to_string(),
                if row.must_understand { "yes" } else { "no" }.to_string(),
                row.offset.to_string(),
                row.len.to_string(),
            ]
        }));
        output::table(&rows);
    }
    problem(report.problem.as_deref());
}

fn print_manifest(manifest: &ManifestReport) {
    output::say(format_args!("  {:<12} {}", "id", manifest.id));
    output::say(format_args!("  {:<12} {}", "kind", manifest.kind));
    if let Some(parent) = &manifest.parent_id {
        output::say(format_args!("  {:<12} {parent}", "parent"));
    }
    if let Some(name) = &manifest.parent_name {
        output::say(format_args!("  {:<12} {name}", "parent name"));
    }
    output::say(format_args!(
        "  {:<12} {}",
        "memory",
        size(manifest.ram_bytes)
    ));
    for (addr, len) in &manifest.regions {
        output::say(format_args!("  {:<12} {addr:#x}, {}", "region", size(*len)));
    }
    if let Some(host) = &manifest.host {
        output::say(format_args!("  {:<12} {host}", "host"));
    }
    for (name, index) in &manifest.disks {
        output::say(format_args!("  {:<12} {name} {index}", "disk"));
    }
    for (key, value) in &manifest.labels {
        output::say(format_args!("  {:<12} {key}={value}", "label"));
    }
}

fn print_state(state: &StateReport) {
    if let (Some(cpu), Some(kernel)) = (&state.cpu, &state.kernel) {
        let host = listed([cpu, kernel]);
        if !host.is_empty() {
            output::say(format_args!("  {:<12} {host}", "host"));
        }
    }
    for vcpu in &state.vcpus {
        let (index, items, msrs) = (vcpu.index, vcpu.items, vcpu.msrs);
        let registers = vcpu.registers;
        output::say(format_args!(
            "  {:<12} {items} items, {msrs} MSRs, {registers} registers",
            format!("vcpu {index}")
        ));
    }
    for device in &state.devices {
        let (kind, instance, version) = (&device.kind, device.instance, device.version);
        output::say(format_args!(
            "  {:<12} {kind}.{instance} version {version}, {} bytes",
            "device", device.bytes
        ));
    }
    for section in &state.other_sections {
        output::say(format_args!("  {:<12} {section}", "of the VMM"));
    }
}

fn print_memory(memory: &MemoryReport) {
    output::say(format_args!("  {:<12} {}", "kind", memory.kind));
    output::say(format_args!(
        "  {:<12} {}",
        "memory",
        size(memory.ram_bytes)
    ));
    output::say(format_args!(
        "  {:<12} {} extents, {} data pages, {} zero pages",
        "holds", memory.extents, memory.data_pages, memory.zero_pages
    ));
    if memory.absent_bytes > 0 {
        let absent = size(memory.absent_bytes);
        output::say(format_args!("  {:<12} {absent}", "not plugged"));
    }
    if let Some(parent) = &memory.parent_root {
        output::say(format_args!("  {:<12} {parent}", "parent root"));
    }
}

fn problem(problem: Option<&str>) {
    if let Some(problem) = problem {
        output::say(format_args!("  {:<12} {problem}", "problem"));
    }
}
