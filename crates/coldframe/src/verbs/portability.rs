//! Holding the machine of a snapshot against this host, for the verbs that report and that restore.

use std::path::Path;

use coldframe_hv::{Accepted, Comparison, Difference, HostIdentity, Hypervisor, Verdict};
use coldframe_minivmm::SimVm;

use crate::exit::Failure;
use crate::verbs::demo::guest_failure;

/// What this host is to the guests of a hypervisor: under KVM, or simulated.
pub fn this_host(hypervisor: Hypervisor) -> Result<HostIdentity, Failure> {
    match hypervisor {
        Hypervisor::SIMULATED => Ok(SimVm::host()),
        Hypervisor::KVM => coldframe_minivmm::probe_host()
            .map_err(|error| guest_failure("cannot ask this host what it offers", &error)),
        // There is no adapter for it here: whatever this host offers, it is another hypervisor.
        _ => Ok(coldframe_minivmm::probe_host().unwrap_or_else(|_| SimVm::host())),
    }
}

/// Agrees to what was waived by name; refuses with every item that stands, on one line.
pub fn accept(
    path: &Path,
    comparison: &Comparison,
    waivers: &[String],
) -> Result<Accepted, Failure> {
    let names: Vec<&str> = waivers.iter().map(String::as_str).collect();
    comparison.accept(&names).map_err(|refused| {
        let items: Vec<String> = refused.items.iter().map(describe).collect();
        let advice = if is_hopeless(&refused.items) {
            "see `coldframe inspect --against-host`"
        } else {
            "take another host, or agree to each with --waive NAME"
        };
        Failure::Wanting(format!(
            "cannot thaw {}: this host differs from the saved one in {}; {advice}",
            path.display(),
            items.join(", ")
        ))
    })
}

/// Whether an item is among them that no waiver helps.
pub fn is_hopeless(items: &[Difference]) -> bool {
    items.iter().any(|item| item.verdict == Verdict::Impossible)
}

fn describe(item: &Difference) -> String {
    let text = |side: &str| {
        let side = if side.is_empty() { "nothing" } else { side };
        side.to_owned()
    };
    let (saved, here) = (text(&item.saved), text(&item.host));
    match item.verdict {
        Verdict::Impossible => format!("{} (impossible: {saved}, here {here})", item.item),
        _ => format!("{} ({saved}, here {here})", item.item),
    }
}
