//! Each crate's README.md, made of what its code and its manifest say: the page of `lib.rs`, whose
//! example is a test, and what the crate depends on. So it cannot be wrong.

use std::fmt::Write as _;

use anyhow::Result;

use crate::findings::Findings;
use crate::manifests::{self, Crate};
use crate::tree::Tree;

/// Compares the files.
pub fn check(tree: &Tree, crates: &[&Crate], findings: &mut Findings) -> Result<()> {
    for one in crates.iter().filter(|one| one.published) {
        let path = path(one);
        let text = render(tree, one)?;
        if !text.contains("\n```") {
            findings.fail(&path, "has no example: the page of the crate needs one");
        }
        if !tree.has(&path) || tree.read(&path)? != text {
            findings.fail(
                path,
                "is not what code and manifest say: `cargo xtask readme`",
            );
        }
    }
    Ok(())
}

/// Writes them.
pub fn write(tree: &Tree) -> Result<bool> {
    for one in manifests::crates(tree)?.iter().filter(|one| one.published) {
        std::fs::write(tree.path(&path(one)), render(tree, one)?)?;
    }
    Ok(true)
}

fn path(one: &Crate) -> String {
    format!("crates/{}/README.md", one.name)
}

fn render(tree: &Tree, one: &Crate) -> Result<String> {
    let sources = ["src/lib.rs", "src/main.rs"].map(|file| format!("crates/{}/{file}", one.name));
    let source = sources.iter().find(|path| tree.has(path));
    let page = source
        .map(|path| tree.read(path))
        .transpose()?
        .unwrap_or_default();
    let mut text = format!("# {}\n\n{}", one.name, markdown(&page));
    let list = |names: &[String]| match names {
        [] => "nothing".to_owned(),
        names => names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", "),
    };
    let _ = write!(
        text,
        "\n## Depends on\n\nOf coldframe: {}.\n",
        list(&one.uses)
    );
    let _ = writeln!(text, "Of others: {}.", list(&one.externals));
    if !one.optional.is_empty() {
        let _ = writeln!(text, "With features only: {}.", list(&one.optional));
    }
    let license = one.license.as_deref().unwrap_or_default();
    let _ = writeln!(text, "\n## Licence\n\n{license}");
    Ok(text)
}

/// The `//!` lines of a file: hidden lines of examples left out, links to items as plain code.
fn markdown(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let (mut text, mut in_code, mut in_rust) = (String::new(), false, false);
    for line in lines.map(|line| line.strip_prefix(' ').unwrap_or(line)) {
        if let Some(language) = line.strip_prefix("```") {
            in_code = !in_code;
            if in_code {
                // As rustdoc has it: without a language it is Rust.
                let is_rust = |word: &str| matches!(word, "" | "no_run" | "rust" | "ignore");
                in_rust = language.split(',').all(is_rust);
                let _ = writeln!(text, "```{}", if in_rust { "rust" } else { language });
            } else {
                text.push_str("```\n");
            }
        } else if in_code {
            let is_hidden = in_rust && (line == "#" || line.starts_with("# "));
            if !is_hidden {
                let _ = writeln!(text, "{line}");
            }
        } else {
            let _ = writeln!(text, "{}", without_item_links(line));
        }
    }
    text
}

/// Links to items become their names: `Thaw`, `map`; a link to a place of the web stays.
fn without_item_links(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("[`") {
        text.push_str(before);
        let Some((name, behind)) = after.split_once("`]") else {
            text.push_str("[`");
            rest = after;
            continue;
        };
        let (target, behind) = match behind.strip_prefix('(').and_then(|it| it.split_once(')')) {
            Some((target, behind)) => (Some(target), behind),
            None => (None, behind),
        };
        let name = name.rsplit_once('@').map_or(name, |(_, name)| name);
        match target.filter(|target| target.contains("://")) {
            Some(target) => text.push_str(&format!("[`{name}`]({target})")),
            None => text.push_str(&format!("`{name}`")),
        }
        rest = behind;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_lines_and_item_links_are_left_out() {
        let source = "//! See [`mod@a`], [`b`](c::d) and [`e`](https://f).\n//!\n//! ```\n\
                      //! # use x;\n//! #[test]\n//! #\n//! run();\n//! ```\n//! ```text\n\
                      //! # stays\n//! ```\nuse z;\n//! not this\n";
        let text = "See `a`, `b` and [`e`](https://f).\n\n```rust\n#[test]\nrun();\n```\n\
                    ```text\n# stays\n```\n";
        assert_eq!(markdown(source), text);
    }
}
