//! As much of Markdown as the specs use: headings, tables, links.

/// A table under a heading.
pub struct Table {
    /// The heading's text, without its marks.
    pub heading: String,
    /// The cells of its first row.
    pub header: Vec<String>,
    /// All other rows: the line in the file, from 1, and the cells.
    pub rows: Vec<(usize, Vec<String>)>,
}

/// All tables of a page, in order.
pub fn tables(text: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut heading = String::new();
    let mut inside = false;
    for (line, number) in text.lines().zip(1..) {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim().to_owned();
        }
        let Some(cells) = cells(line) else {
            inside = false;
            continue;
        };
        match tables.last_mut() {
            Some(table) if inside => {
                if !cells.iter().all(|cell| is_rule(cell)) {
                    table.rows.push((number, cells));
                }
            }
            _ => tables.push(Table {
                heading: heading.clone(),
                header: cells,
                rows: Vec::new(),
            }),
        }
        inside = true;
    }
    tables
}

/// The targets of all links `[text](target)`, with their lines, from 1; code is left out.
pub fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (line, number) in text.lines().zip(1..) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every second part lies between backticks.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        for part in prose.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    // A bar inside a cell is written `\|`.
    let inner = inner.replace("\\|", "\u{1}");
    let cells = inner.split('|').map(|c| c.trim().replace('\u{1}', "|"));
    Some(cells.collect())
}

fn is_rule(cell: &str) -> bool {
    !cell.is_empty() && cell.chars().all(|c| c == '-' || c == ':')
}
