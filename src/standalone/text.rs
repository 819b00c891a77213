//! Text for people: tables, sizes, short digests and names.

use std::fmt::{Display, Write};

use crate::plan::NamespacedName;

/// Aligns columns at their widest cells; the last is not filled up.
pub(super) fn table(rows: &[impl AsRef<[String]>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row.as_ref()[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, |row| row.as_ref().len())).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.as_ref().iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// Returns `name` of a Registry, with its namespace in front where that is not `own`.
pub(super) fn short_name(reference: &NamespacedName, own: &str) -> String {
    if reference.namespace == own {
        reference.name.clone()
    } else {
        format!("{}/{}", reference.namespace, reference.name)
    }
}

/// Cuts a digest to a length at which people can compare two.
pub(super) fn short_digest(digest: &str) -> String {
    digest.chars().take(SHORT_DIGEST).collect()
}

/// Formats a count of bytes with a decimal unit.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Formats remarks as paragraphs.
pub(super) fn remark_lines(remarks: &[impl Display]) -> String {
    remarks.iter().fold(String::new(), |mut text, remark| {
        let _ = write!(text, "\n{remark}\n");
        text
    })
}

/// Formats problems of more than one image as paragraphs.
pub(super) fn problem_lines(problems: &[String]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = write!(text, "\n! {problem}\n");
        text
    })
}

/// `sha256:` and twelve digits.
const SHORT_DIGEST: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["A", "B"], ["long", ""], ["é", "last"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "A      B\nlong\né      last\n");
    }
}
