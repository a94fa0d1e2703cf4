//! `coldframe inspect --against-host SNAP`: what the guest would find different here, item by item.

use std::collections::BTreeMap;
use std::path::Path;

use coldframe_hv::{Comparison, HostIdentity, PortabilityReport, Verdict};
use serde::Serialize;

use crate::exit::Failure;
use crate::human::listed;
use crate::output;
use crate::search::{failure, open};
use crate::verbs::portability::{is_hopeless, this_host};

/// The keys are part of the contract of the command line.
#[derive(Serialize)]
struct Report {
    snapshot: String,
    id: String,
    saved: Host,
    host: Host,
    items: Vec<Item>,
    /// How many items have each verdict, those that were waived under `waived`.
    counts: BTreeMap<&'static str, usize>,
    /// The gravest that was not waived.
    verdict: &'static str,
    /// Names that were waived and are of no item that has to be.
    unused_waivers: Vec<String>,
}

#[derive(Serialize)]
struct Host {
    arch: String,
    hypervisor: String,
    cpu: String,
    kernel: String,
}

#[derive(Serialize)]
struct Item {
    name: String,
    saved: String,
    host: String,
    verdict: &'static str,
    waived: bool,
}

impl Host {
    fn of(identity: &HostIdentity) -> Self {
        Self {
            arch: identity.arch.to_string(),
            hypervisor: identity.hypervisor.to_string(),
            cpu: identity.cpu.brand.clone(),
            kernel: identity.kernel.clone(),
        }
    }
}

/// Prints the report; exit 1 if a restore with these waivers would be refused.
pub fn run(path: &Path, waived: &[String], json: bool) -> Result<(), Failure> {
    if path.is_file() {
        let path = path.display();
        let text = format!("{path} is no snapshot directory: --against-host needs one");
        return Err(Failure::Usage(text));
    }
    let snapshot = open(path)?;
    let cannot = format!("cannot hold {} against this host", path.display());
    let machine = snapshot
        .machine()
        .map_err(|error| failure(&cannot, &error))?;
    let host = this_host(machine.hypervisor)?;
    let found = Comparison::of(&machine, (&host).into());
    let mut report = Report {
        snapshot: path.display().to_string(),
        id: snapshot.id().to_string(),
        saved: Host::of(&machine.host),
        host: Host::of(&host),
        items: Vec::new(),
        counts: BTreeMap::new(),
        verdict: Verdict::Same.name(),
        unused_waivers: Vec::new(),
    };
    report.fill(&found, waived);
    if json {
        output::json(&report)?;
    } else {
        report.print(&found);
    }
    let names: Vec<&str> = waived.iter().map(String::as_str).collect();
    match found.accept(&names) {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::Reported),
    }
}

impl Report {
    fn fill(&mut self, found: &PortabilityReport, waivers: &[String]) {
        let mut gravest = Verdict::Same;
        let can_be = |item: &&coldframe_hv::Difference| item.verdict == Verdict::MustBeWaived;
        for item in found.differences() {
            let waived = can_be(&item) && waivers.contains(&item.item);
            let verdict = item.verdict;
            if !waived {
                gravest = gravest.max(verdict);
            }
            let counted = if waived { "waived" } else { verdict.name() };
            *self.counts.entry(counted).or_default() += 1;
            self.items.push(Item {
                name: item.item.clone(),
                saved: item.saved.clone(),
                host: item.host.clone(),
                verdict: verdict.name(),
                waived,
            });
        }
        self.verdict = gravest.name();
        let is_unused = |name: &&String| {
            let mut items = self.items.iter();
            !items.any(|item| item.waived && item.name == **name)
        };
        self.unused_waivers = waivers.iter().filter(is_unused).cloned().collect();
    }

    fn print(&self, found: &PortabilityReport) {
        let host = |host: &Host| {
            let Host {
                arch,
                hypervisor,
                cpu,
                kernel,
            } = host;
            listed([arch, hypervisor, cpu, kernel])
        };
        output::say(format_args!("{}: against this host", self.snapshot));
        output::say(format_args!("  {:<12} {}", "saved on", host(&self.saved)));
        output::say(format_args!("  {:<12} {}", "this host", host(&self.host)));
        let heading = ["  item", "saved", "here", "verdict"];
        let mut rows = vec![heading.map(String::from).to_vec()];
        let differs = |item: &&Item| item.verdict != Verdict::Same.name();
        rows.extend(self.items.iter().filter(differs).map(|item| {
            let verdict = if item.waived { "waived" } else { item.verdict };
            vec![
                format!("  {}", item.name),
                or_dash(&item.saved),
                or_dash(&item.host),
                verdict.to_owned(),
            ]
        }));
        if rows.len() > 1 {
            output::table(&rows);
        }
        let counts = self
            .counts
            .iter()
            .map(|(what, count)| format!("{count} {what}"));
        let counts: Vec<String> = counts.collect();
        output::say(format_args!("  {:<12} {}", "items", counts.join(", ")));
        for name in &self.unused_waivers {
            output::say(format_args!(
                "  {:<12} {name} need not be waived, or cannot",
                "waiver"
            ));
        }
        output::say(format_args!("verdict: {}", self.verdict));
        if self.verdict == Verdict::MustBeWaived.name() && !is_hopeless(found.differences()) {
            let standing = self
                .items
                .iter()
                .filter(|item| item.verdict == Verdict::MustBeWaived.name() && !item.waived);
            let options: Vec<String> = standing
                .map(|item| format!("--waive {}", item.name))
                .collect();
            output::say(format_args!("restore with: {}", options.join(" ")));
        }
    }
}

/// A side that has no such item.
fn or_dash(text: &str) -> String {
    let text = if text.is_empty() { "-" } else { text };
    text.to_owned()
}
