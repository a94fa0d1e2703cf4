//! The order in which crates can be published: by rank, and no crate before one that its manifest
//! names with a version. That can be a higher one, if its tests use it.

use anyhow::{Result, bail};

use crate::manifests::{Crate, Rank};

/// The published crates in that order.
pub fn order(crates: &[Crate]) -> Result<Vec<&Crate>> {
    let mut left: Vec<&Crate> = crates
        .iter()
        .filter(|one| one.published && matches!(one.rank, Rank::Of(_)))
        .collect();
    left.sort_by_key(|one| (one.rank, one.name.as_str()));
    let mut ordered: Vec<&Crate> = Vec::new();
    while !left.is_empty() {
        let is_ready = |one: &&Crate| {
            let mut names = one.named.iter();
            names.all(|name| !left.iter().any(|other| other.name == *name))
        };
        let Some(at) = left.iter().position(is_ready) else {
            let names: Vec<&str> = left.iter().map(|one| one.name.as_str()).collect();
            bail!("none of these can be published first: {}", names.join(", "));
        };
        ordered.push(left.remove(at));
    }
    Ok(ordered)
}

/// `chosen` and all that their manifests name, whose packages they are built on.
pub fn closure<'a>(crates: &'a [Crate], chosen: &[&'a Crate]) -> Vec<&'a Crate> {
    let mut found: Vec<&Crate> = chosen.to_vec();
    let mut at = 0;
    while let Some(one) = found.get(at).copied() {
        for other in crates
            .iter()
            .filter(|other| one.named.contains(&other.name))
        {
            if !found.iter().any(|known| known.name == other.name) {
                found.push(other);
            }
        }
        at += 1;
    }
    found
}
