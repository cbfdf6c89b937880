//! A table of text with aligned columns.
use std::fmt;

/// Rows under a title and a head.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(title: &str, head: &[&str]) -> Self {
        Table { title: title.into(), rows: vec![head.iter().map(|s| s.to_string()).collect()] }
    }
    pub fn row(&mut self, cells: &[&str]) {
        self.rows.push(cells.iter().map(|s| s.to_string()).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.title)?;
        let n = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |i: usize| self.rows.iter().filter_map(|row| row.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..n).map(width).collect();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &w)| format!("{cell:w$}")).collect();
            writeln!(f, "  {}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new("title", &["a", "long"]);
        table.row(&["wide", "x"]);
        assert_eq!(table.to_string(), "\ntitle\n  a     long\n  wide  x\n");
    }
}
