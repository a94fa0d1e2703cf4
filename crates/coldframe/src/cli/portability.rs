//! What a user says of the differences between the host of a snapshot and this one.

use clap::Args;

/// Differences that somebody agrees to.
#[derive(Clone, Debug, Default, Args)]
pub struct Waivers {
    /// Go on although this item of the saved host cannot be had here; `inspect --against-host`
    /// names the items. Can be given more than once.
    #[arg(long = "waive", value_name = "NAME")]
    pub names: Vec<String>,
}

/// How a snapshot is held against this host.
#[derive(Clone, Debug, Args)]
pub struct AgainstHost {
    /// Say item by item what the guest would find different on this host; exit 1 if a restore
    /// would be refused.
    #[arg(long)]
    pub against_host: bool,
    /// Count this item as waived, as a restore with the same option would. Can be given more than
    /// once.
    #[arg(long = "waive", value_name = "NAME", requires = "against_host")]
    pub waived: Vec<String>,
}
