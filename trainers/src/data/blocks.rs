//! Streamed rows made ready to be trained on, block by block, in an order that a resumed run finds again.
use super::read::Row;
use super::stream::{Pass, RowStream};
use crate::error::{Error, Result};
use engine::random::Stream;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// "block" in ASCII: separates the shuffling of blocks from the other uses of a seed; pass and block are added.
const SHUFFLE: u64 = 0x62_6C_6F_63_6B << 24;

/// Makes what is trained on of rows: tokens, or several rows packed into one.
pub trait MakeRows {
    /// What is trained on.
    type Made;
    /// What some neighbouring rows become; nothing, where there is nothing in them to learn.
    fn make(&mut self, rows: Vec<Row>) -> Result<Vec<Self::Made>>;
}

/// How far a run has come in streamed rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// Passes over the data that are complete.
    pub pass: u64,
    /// Batches of this pass that were taken.
    pub batches: u64,
    /// Rows of this pass before the block that is next taken from.
    pub rows: u64,
    /// What was taken of that block, in rows that are trained on.
    pub taken: u64,
}

/// Where the batches of an optimiser step lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The pass they belong to.
    pub pass: u64,
    /// How many of its batches are taken with them.
    pub batches: u64,
    /// Whether the pass ends with them.
    pub ends_pass: bool,
    /// Where the next step begins.
    pub position: StreamPosition,
}

/// Streamed rows as batches. What is in memory is one block.
pub struct Blocks<M: MakeRows> {
    /// What makes them.
    pub maker: M,
    stream: RowStream,
    /// Rows of a block.
    size: usize,
    /// Seed from which the rows of each block are shuffled.
    shuffle: Option<u64>,
    rows: Pass,
    block: VecDeque<M::Made>,
    /// Rows that the block was made of.
    block_rows: u64,
    at: StreamPosition,
}

impl<M: MakeRows> Blocks<M> {
    /// From the first row on; `size` rows make a block, shuffled from the seed `shuffle`.
    pub fn new(stream: RowStream, maker: M, size: usize, shuffle: Option<u64>) -> Result<Self> {
        let (rows, at) = (stream.pass()?, StreamPosition::default());
        Ok(Blocks { maker, stream, size, shuffle, rows, block: VecDeque::new(), block_rows: 0, at })
    }

    /// Goes on where a run was. Errors: the data has fewer rows than were read then.
    pub fn go_to(&mut self, position: StreamPosition) -> Result<()> {
        self.begin(position.pass)?;
        for _ in 0..position.rows {
            self.rows.next().transpose()?.ok_or_else(lost)?;
        }
        (self.at.rows, self.at.batches) = (position.rows, position.batches);
        while self.at.taken < position.taken {
            self.next_made()?.ok_or_else(lost)?;
        }
        Ok(())
    }

    fn begin(&mut self, pass: u64) -> Result<()> {
        (self.rows, self.block_rows) = (self.stream.pass()?, 0);
        self.block.clear();
        self.at = StreamPosition { pass, ..StreamPosition::default() };
        Ok(())
    }

    /// Reads until there is something to take; false at the end of the pass.
    fn fill(&mut self) -> Result<bool> {
        while self.block.is_empty() {
            let rows: Vec<Row> = self.rows.by_ref().take(self.size).collect::<Result<_>>()?;
            (self.at.rows, self.at.taken) = (self.at.rows + self.block_rows, 0);
            self.block_rows = rows.len() as u64;
            if rows.is_empty() {
                return Ok(false);
            }
            let rows = self.shuffled(rows);
            self.block = self.maker.make(rows)?.into();
        }
        Ok(true)
    }

    fn shuffled(&self, rows: Vec<Row>) -> Vec<Row> {
        let Some(seed) = self.shuffle else { return rows };
        let block = self.at.rows / self.size as u64;
        let order = Stream::new(seed, SHUFFLE ^ (self.at.pass << 44) ^ block).permutation(rows.len());
        order.into_iter().map(|i| rows[i].clone()).collect()
    }

    fn next_made(&mut self) -> Result<Option<M::Made>> {
        self.fill()?;
        let made = self.block.pop_front();
        self.at.taken += u64::from(made.is_some());
        Ok(made)
    }

    /// The next step: up to `n` batches of up to `size` rows, not beyond the end of the pass, behind which the next one
    /// begins. Errors: what is wrong with a row, a pass with nothing to learn in it.
    pub fn step(&mut self, n: usize, size: usize) -> Result<(Vec<Vec<M::Made>>, Reached)> {
        let mut batches = Vec::new();
        while batches.len() < n && self.fill()? {
            let mut batch = Vec::new();
            while batch.len() < size
                && let Some(made) = self.next_made()?
            {
                batch.push(made);
            }
            batches.push(batch);
        }
        if batches.is_empty() {
            return Err(Error::input("nothing is left to train on: no row of the streamed data has anything to learn"));
        }
        self.at.batches += batches.len() as u64;
        let StreamPosition { pass, batches: n, .. } = self.at;
        let ends_pass = !self.fill()?;
        if ends_pass {
            self.begin(pass + 1)?;
        }
        Ok((batches, Reached { pass, batches: n, ends_pass, position: self.at }))
    }

    /// Rows in memory that are ready to be trained on.
    pub fn held(&self) -> usize {
        self.block.len()
    }
}

fn lost() -> Error {
    Error::input("the streamed data has fewer rows than when the checkpoint was written")
}

#[cfg(test)]
mod tests {
    use super::super::mixture::MixturePart;
    use super::super::others::Calls;
    use super::*;

    /// Numbers of rows; every seventh has nothing to learn in it. Counts what is in memory at once.
    struct Numbers;

    impl MakeRows for Numbers {
        type Made = u64;
        fn make(&mut self, rows: Vec<Row>) -> Result<Vec<u64>> {
            Ok(rows.iter().filter_map(|row| row.fields["n"].as_u64()).filter(|n| n % 7 != 3).collect())
        }
    }

    fn blocks(n: u64, size: usize, shuffle: Option<u64>) -> (tempfile::TempDir, Blocks<Numbers>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, (0..n).map(|i| format!("{{\"n\": {i}}}\n")).collect::<String>()).unwrap();
        let part =
            MixturePart { paths: vec![path], config: None, split: "train".into(), columns: None, fraction: None };
        let stream = RowStream::open(&[part], None, Calls::AsCalls).unwrap();
        (dir, Blocks::new(stream, Numbers, size, shuffle).unwrap())
    }

    fn kept(n: u64) -> Vec<u64> {
        (0..n).filter(|n| n % 7 != 3).collect()
    }

    #[test]
    fn steps_are_those_of_rows_in_memory() {
        for size in [1, 4, 1000] {
            let (_dir, mut blocks) = blocks(23, size, None);
            let steps: Vec<_> = (0..6).map(|_| blocks.step(2, 4).unwrap()).collect();
            let of = |steps: &[(Vec<Vec<u64>>, Reached)]| steps.iter().flat_map(|s| s.0.concat()).collect::<Vec<u64>>();
            // 20 rows: two steps of two batches, and one of one.
            assert_eq!((of(&steps[..3]), of(&steps[3..])), (kept(23), kept(23)));
            let about = |(batches, to): &(Vec<Vec<u64>>, Reached)| {
                (batches.len(), to.pass, to.batches, to.ends_pass, to.position.pass)
            };
            assert_eq!(about(&steps[1]), (2, 0, 4, false, 0));
            assert_eq!(about(&steps[2]), (1, 0, 5, true, 1));
            assert_eq!(about(&steps[3]), (2, 1, 2, false, 1));
        }
    }

    /// From every position of an uninterrupted run, the steps that follow are the same.
    #[test]
    fn a_resumed_run_goes_on_at_the_very_row() {
        for (size, shuffle) in [(1, None), (5, None), (5, Some(42))] {
            let (_dir, mut whole) = blocks(33, size, shuffle);
            let steps: Vec<_> = (0..9).map(|_| whole.step(2, 3).unwrap()).collect();
            for (i, step) in steps.iter().enumerate().take(8) {
                let (_dir, mut again) = blocks(33, size, shuffle);
                again.go_to(step.1.position).unwrap();
                assert_eq!(again.step(2, 3).unwrap(), steps[i + 1], "{size} {shuffle:?} {i}");
            }
        }
        let (_dir, mut short) = blocks(3, 1, None);
        let told = short.go_to(StreamPosition { rows: 9, ..Default::default() }).unwrap_err().to_string();
        assert!(told.contains("fewer rows"), "{told}");
    }

    /// Blocks are shuffled, each by itself, and otherwise in each pass.
    #[test]
    fn blocks_are_shuffled() {
        let (_dir, mut blocks) = blocks(40, 10, Some(1));
        let pass = |blocks: &mut Blocks<Numbers>| blocks.step(1, 100).unwrap().0.concat();
        let (first, second) = (pass(&mut blocks), pass(&mut blocks));
        assert_ne!(first, second);
        let sorted = |all: &[u64]| {
            let mut all = all.to_vec();
            all.sort();
            all
        };
        assert_eq!((sorted(&first), sorted(&second)), (kept(40), kept(40)));
        assert_ne!(first, kept(40));
        assert!(first.iter().zip(kept(40)).all(|(a, b)| a / 10 == b / 10), "a row stays in its block: {first:?}");
        let order = |from: u64| first.iter().filter(|n| **n / 10 == from).map(|n| n % 10).collect::<Vec<_>>();
        assert_ne!(order(0), order(1), "each block has an order of its own");
    }

    /// However long the data, one block is in memory.
    #[test]
    fn no_more_than_a_block_is_held() {
        let (_dir, mut blocks) = blocks(5000, 16, None);
        for _ in 0..400 {
            let (batches, _) = blocks.step(1, 4).unwrap();
            assert!(batches.concat().len() == 4 && blocks.held() <= 16, "{}", blocks.held());
        }
    }
}
