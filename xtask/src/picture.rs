//! The picture of the layers in the README, drawn from the manifests so that it cannot be wrong.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::findings::Findings;
use crate::manifests::{self, Crate, Rank};
use crate::tree::Tree;

const README: &str = "README.md";
const BEGIN: &str = "<!-- layers:begin -->\n";
const END: &str = "<!-- layers:end -->";

/// Compares the README's picture, once there is a README.
pub fn check(tree: &Tree, crates: &[Crate], findings: &mut Findings) -> Result<()> {
    if !tree.has(README) {
        return Ok(());
    }
    let readme = tree.read(README)?;
    match split(&readme) {
        None => findings.fail(README, "has no `layers:begin` and `layers:end` comments"),
        Some((_, picture, _)) if picture != draw(crates) => {
            findings.fail(
                README,
                "another picture of the layers: `cargo xtask layers --write`",
            );
        }
        Some(_) => {}
    }
    Ok(())
}

/// Puts the picture into the README.
pub fn write(tree: &Tree) -> Result<bool> {
    let readme = tree.read(README)?;
    let Some((head, _, tail)) = split(&readme) else {
        bail!("{README} has no `layers:begin` and `layers:end` comments");
    };
    let picture = draw(&manifests::crates(tree)?);
    std::fs::write(tree.path(README), format!("{head}{picture}{tail}"))?;
    Ok(true)
}

/// What stands before, between and after the marks; the marks stay with the outer parts.
fn split(readme: &str) -> Option<(&str, &str, &str)> {
    let from = readme.find(BEGIN)? + BEGIN.len();
    let to = from + readme.get(from..)?.find(END)?;
    Some((
        readme.get(..from)?,
        readme.get(from..to)?,
        readme.get(to..)?,
    ))
}

/// One line per crate, the highest rank first; what it uses stands to its right.
fn draw(crates: &[Crate]) -> String {
    let short = |name: &str| name.trim_start_matches("coldframe-").to_owned();
    let mut rows: Vec<(u64, &Crate)> = crates
        .iter()
        .filter_map(|one| match one.rank {
            Rank::Of(rank) => Some((rank, one)),
            Rank::Dev => None,
        })
        .collect();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name)));
    let mut picture = String::from("```text\nrank  crate                 uses\n");
    for (rank, one) in rows {
        let mark = if one.pure { "*" } else { " " };
        let uses: Vec<String> = one.uses.iter().map(|name| short(name)).collect();
        let line = format!("{rank:>4}  {:<20}{mark} {}", one.name, uses.join(" "));
        let _ = writeln!(picture, "{}", line.trim_end());
    }
    picture.push_str("\n* pure: no_std, no unsafe code, no I/O, no clock, no logging\n```\n");
    picture
}
