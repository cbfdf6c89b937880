//! Which rows of the KV cache are free. A sequence may own any rows in any order: attention finds them by position.
use std::collections::BTreeSet;

/// The rows 0 .. n of a cache, handed out lowest first.
#[derive(Debug)]
pub(super) struct FreeRows {
    free: BTreeSet<u32>,
}

impl FreeRows {
    pub fn new(n: usize) -> Self {
        FreeRows { free: (0..n as u32).collect() }
    }

    /// `n` rows, or None if there are not so many.
    pub fn take(&mut self, n: usize) -> Option<Vec<u32>> {
        if n > self.free.len() {
            return None;
        }
        let rows: Vec<u32> = self.free.iter().copied().take(n).collect();
        rows.iter().for_each(|row| {
            self.free.remove(row);
        });
        Some(rows)
    }

    pub fn give_back(&mut self, rows: impl IntoIterator<Item = u32>) {
        self.free.extend(rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        let mut rows = FreeRows::new(4);
        assert_eq!(rows.take(3), Some(vec![0, 1, 2]));
        assert_eq!(rows.take(2), None);
        rows.give_back([1]);
        assert_eq!(rows.take(2), Some(vec![1, 3]));
        assert_eq!(rows.take(1), None);
    }
}
