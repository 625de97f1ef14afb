//! Columns of text, and numbers as people read them.

use std::time::Duration;

use bytesize::ByteSize;

/// Rows under headings; every column as wide as its widest cell.
pub(super) struct Table {
    rows: Vec<Row>,
}

enum Row {
    Cells(Vec<String>),
    /// A line under the row above it, indented beneath its first column.
    Note(String),
}

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![Row::Cells(headings.iter().map(|heading| (*heading).to_owned()).collect())] }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(Row::Cells(cells));
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.rows.push(Row::Note(note.into()));
    }

    /// One line per row, without trailing blanks.
    pub(super) fn render(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                widths.resize(widths.len().max(cells.len()), 0);
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(cell.chars().count());
                }
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            match row {
                Row::Cells(cells) => {
                    let cells = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
                    text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
                }
                Row::Note(note) => {
                    text.push_str("    ");
                    text.push_str(note);
                }
            }
            text.push('\n');
        }
        text
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// A number, or a dash where nobody knows it.
pub(super) fn known(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), grouped)
}

/// Bytes with a binary unit.
pub(super) fn bytes(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// Seconds, finer below ten.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{:.1}s", seconds.max(0.0))
    } else {
        // More than an i64 of seconds, or NaN, is nobody's lag; the cast saturates.
        humantime::format_duration(Duration::from_secs(seconds.round() as u64)).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["A", "B"]);
        table.row(vec!["α→β".into(), "1".into()]);
        table.note("why");
        table.row(vec!["x".into(), "22".into()]);
        assert_eq!(table.render(), "A    B\nα→β  1\n    why\nx    22\n");
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (-1_234_567, "-1,234,567"),
            (i64::MIN, "-9,223,372,036,854,775,808"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(known(None), "-");
    }

    #[test]
    fn seconds_are_fine_when_few() {
        assert_eq!(seconds(0.04), "0.0s");
        assert_eq!(seconds(9.94), "9.9s");
        assert_eq!(seconds(3725.2), "1h 2m 5s");
        assert_eq!(seconds(-1.0), "0.0s");
    }
}
