//! Numbers that files carry and no layout has: each table of them on a page is held against the
//! constants of the crate, both ways.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use coldframe_envelope::{Codec, SectionKind};
use coldframe_hv::aarch64::{GicModel, PowerState, RegId, SysReg};
use coldframe_hv::{Hypervisor, ItemKind};
use coldframe_journal::EntrySet as _;
use coldframe_journal::kinds::CoreEntries;

use crate::findings::Findings;
use crate::layout;
use crate::manifests;
use crate::markdown::{self, Table};
use crate::tree::Tree;

const ITEMS: &str = "specs/items.md";
const ENTRIES: &str = "specs/journal-entries.md";

/// Checks all of them.
pub fn check(tree: &Tree, findings: &mut Findings) -> Result<()> {
    let items = markdown::tables(&tree.read(ITEMS)?);
    let named = Hypervisor::KNOWN.iter();
    let hypervisors = named.map(|(one, name)| (u64::from(one.code()), (*name).to_owned()));
    compare(ITEMS, &items, "Hypervisors", hypervisors, findings);
    let known = ItemKind::KNOWN.iter();
    let kinds = known.map(|(kind, name, _)| (u64::from(kind.code()), (*name).to_owned()));
    compare(ITEMS, &items, "Items", kinds, findings);
    let sources = known_sources();
    for (line, cells) in rows(&items, "Items") {
        let found = cells.get(4).map(|cell| cell.trim_matches('`'));
        let name = cells.get(1).map_or("", String::as_str);
        if found != sources.get(name).copied() {
            findings.fail(
                format!("{ITEMS}:{line}"),
                format!("`{name}` is read by another call"),
            );
        }
    }
    let gic = (0..=0xffff).filter_map(GicModel::from_code);
    let gic = gic.map(|one| (u64::from(one.code()), one.name().to_owned()));
    compare(ITEMS, &items, "Interrupt controllers", gic, findings);
    compare(ITEMS, &items, "Register codes", registers(), findings);
    let power = (0..=0xffff).filter_map(PowerState::from_code);
    let power = power.map(|one| (u64::from(one.code()), format!("{one:?}").to_lowercase()));
    compare(ITEMS, &items, "Power states of aarch64", power, findings);
    let entries = markdown::tables(&tree.read(ENTRIES)?);
    let types = CoreEntries::TYPES
        .iter()
        .zip(CoreEntries::LAYOUTS)
        .map(|(type_id, layout)| {
            let name = layout.name.trim_start_matches("entry ");
            (u64::from(type_id.raw()), name.to_owned())
        });
    compare(ENTRIES, &entries, "Types", types, findings);
    formats(tree, findings)?;
    limits(tree, findings)?;
    crates(tree, findings)?;
    codecs(tree, findings)
}

const ENVELOPE: &str = "specs/envelope.md";

/// The formats of all crates, and of all goldens but those of no format.
fn formats(tree: &Tree, findings: &mut Findings) -> Result<()> {
    let text = |kind: SectionKind| String::from_utf8_lossy(&kind.bytes()).into_owned();
    let mut code: BTreeSet<String> = [
        coldframe_manifest::FORMAT,
        coldframe_manifest::CHILD_FORMAT,
        coldframe_statefile::FORMAT,
        coldframe_memfile::FORMAT,
        coldframe_chunkfile::INDEX_FORMAT,
        coldframe_chunkfile::PACK_FORMAT,
        coldframe_chunkfile::TAG_FORMAT,
        coldframe_chunkfile::LEDGER_FORMAT,
        coldframe_chunks::STORE_FORMAT,
    ]
    .map(|format| text(format.id()))
    .into();
    let goldens = crate::goldens::formats(tree)?;
    code.extend(
        goldens
            .into_iter()
            .map(text)
            .filter(|format| format != "TEST"),
    );
    let tables = markdown::tables(&tree.read(ENVELOPE)?);
    let limits: Vec<&str> = layout::FILE_LIMITS.iter().map(|(name, _)| *name).collect();
    for (line, cells) in rows(&tables, "Formats") {
        let place = format!("{ENVELOPE}:{line}");
        let format = cells.first().map_or("", |cell| cell.trim_matches('`'));
        if !code.remove(format) {
            findings.fail(&place, format!("no crate has a format `{format}`"));
        }
        if !cells
            .get(3)
            .is_some_and(|cell| limits.contains(&cell.as_str()))
        {
            findings.fail(place, "there are no such limits");
        }
    }
    for format in code {
        findings.fail(
            ENVELOPE,
            format!("the format `{format}` is not under \"Formats\""),
        );
    }
    Ok(())
}

/// The limits of each kind of file, as its reader is given them.
fn limits(tree: &Tree, findings: &mut Findings) -> Result<()> {
    let tables = markdown::tables(&tree.read(ENVELOPE)?);
    let shown = rows(&tables, "Limits").map(|(_, cells)| cells.join(" | "));
    let code = layout::FILE_LIMITS.iter().map(|(name, limits)| {
        let (sections, section) = (limits.sections_max, limits.section_bytes_max);
        format!(
            "{name} | {sections} | {section} | {}",
            limits.file_bytes_max
        )
    });
    let (shown, code): (BTreeSet<_>, BTreeSet<_>) = (shown.collect(), code.collect());
    for row in shown.symmetric_difference(&code) {
        findings.fail(
            ENVELOPE,
            format!("limits that page and code do not share: {row}"),
        );
    }
    Ok(())
}

/// Every crate has its paragraph on the code map, and every paragraph its crate.
fn crates(tree: &Tree, findings: &mut Findings) -> Result<()> {
    const MAP: &str = "specs/architecture.md";
    let text = tree.read(MAP)?;
    let mut shown = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("**")) {
        if let Some((names, _)) = line.split_once(".**") {
            shown.extend(names.split(", ").map(str::to_owned));
        }
    }
    let crates = manifests::crates(tree)?.into_iter().map(|one| one.name);
    let code = crates.map(|name| name.trim_start_matches("coldframe-").to_owned());
    let code: BTreeSet<String> = code.collect();
    for name in shown.symmetric_difference(&code) {
        findings.fail(
            MAP,
            format!("`{name}` is a crate, or has a paragraph, but not both"),
        );
    }
    Ok(())
}

fn known_sources() -> BTreeMap<&'static str, &'static str> {
    ItemKind::KNOWN
        .iter()
        .map(|(_, name, source)| (*name, *source))
        .collect()
}

/// Named registers, with the ends of the numbered ones.
fn registers() -> impl Iterator<Item = (u64, String)> {
    let system = RegId::from_system;
    let numbered = [
        (RegId::general(0), "X0"),
        (RegId::general(30), "X30"),
        (RegId::simd(0), "V0"),
        (RegId::simd(31), "V31"),
    ];
    let named = [
        (RegId::SP_EL0, "SP_EL0"),
        (RegId::PC, "PC"),
        (RegId::PSTATE, "PSTATE"),
        (RegId::SP_EL1, "SP_EL1"),
        (RegId::ELR_EL1, "ELR_EL1"),
        (RegId::SPSR_EL1, "SPSR_EL1"),
        (RegId::FPSR, "FPSR"),
        (RegId::FPCR, "FPCR"),
        (RegId::SVE_LENGTHS, "SVE_LENGTHS"),
        (RegId::MPIDR_EL1, "MPIDR_EL1"),
        (system(SysReg::MIDR_EL1), "MIDR_EL1"),
        (system(SysReg::CNTFRQ_EL0), "CNTFRQ_EL0"),
        (system(SysReg::CNTPCT_EL0), "CNTPCT_EL0"),
        (system(SysReg::CNTVCT_EL0), "CNTVCT_EL0"),
        (system(SysReg::CNTP_CTL_EL0), "CNTP_CTL_EL0"),
        (system(SysReg::CNTP_CVAL_EL0), "CNTP_CVAL_EL0"),
        (system(SysReg::CNTV_CTL_EL0), "CNTV_CTL_EL0"),
        (system(SysReg::CNTV_CVAL_EL0), "CNTV_CVAL_EL0"),
    ];
    let numbered = numbered
        .into_iter()
        .filter_map(|(id, name)| Some((id?, name)));
    numbered
        .chain(named)
        .map(|(id, name)| (id.code(), name.to_owned()))
}

fn rows<'a>(tables: &'a [Table], heading: &str) -> impl Iterator<Item = &'a (usize, Vec<String>)> {
    let heading = heading.to_owned();
    let under = tables.iter().filter(move |table| table.heading == heading);
    under.flat_map(|table| table.rows.iter())
}

/// Compares the first two columns of a table, number and name, with those of the code.
fn compare(
    page: &str,
    tables: &[Table],
    heading: &str,
    code: impl Iterator<Item = (u64, String)>,
    findings: &mut Findings,
) {
    let mut code: BTreeMap<u64, String> = code.collect();
    for (line, cells) in rows(tables, heading) {
        let [number, name, ..] = cells.as_slice() else {
            continue;
        };
        let (place, name) = (format!("{page}:{line}"), name.trim_matches('`'));
        let parsed = match number.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => number.parse(),
        };
        match parsed.ok().and_then(|number| code.remove(&number)) {
            Some(known) if known == name => {}
            Some(known) => findings.fail(place, format!("{number} is `{known}` in the code")),
            None => findings.fail(
                place,
                format!("the code has no {number}, or it stands twice"),
            ),
        }
    }
    for (number, name) in code {
        findings.fail(
            page,
            format!("`{name}`, {number:#x}, is not under \"{heading}\""),
        );
    }
}

/// Every codec release that ever wrote a file is named by its format's page, with the package that
/// reads it. The package is pinned, so that no update changes what is written; and each row has a
/// golden file, so that none can be dropped and all are read by the compat tests.
fn codecs(tree: &Tree, findings: &mut Findings) -> Result<()> {
    let written: [(&str, Codec); 2] = [
        ("specs/statefile.md", coldframe_statefile::FORMAT.codec()),
        ("specs/journal.md", coldframe_walframe::journal::PART_CODEC),
    ];
    let goldens = crate::goldens::codecs(tree)?;
    for (page, codec) in written {
        let tables = markdown::tables(&tree.read(page)?);
        let mut listed = Vec::new();
        for (line, cells) in rows(&tables, "Codecs") {
            let place = format!("{page}:{line}");
            let [name, release, package] = [0, 1, 2].map(|n| cells.get(n).cloned());
            let name = name.unwrap_or_default().trim_matches('`').to_owned();
            listed.push((name, release.unwrap_or_default()));
            let package = package.unwrap_or_default();
            if !manifests::is_locked(tree, &package)? {
                findings.fail(place, format!("{package} is not what Cargo.lock has"));
            }
        }
        let now = (codec.name().to_owned(), codec.release().to_string());
        if !listed.contains(&now) {
            findings.fail(
                page,
                format!("`{}` {} is not under \"Codecs\"", now.0, now.1),
            );
        }
        let format = codec.name();
        for golden in goldens.iter().filter(|golden| golden.0 == format) {
            if !listed.contains(golden) {
                let (name, release) = golden;
                findings.fail(page, format!("a golden is of `{name}` {release}: list it"));
            }
        }
        for row in listed.iter().filter(|row| !goldens.contains(*row)) {
            findings.fail(page, format!("no golden is of `{}` {}", row.0, row.1));
        }
    }
    Ok(())
}
