//! The batch as a forest: one flat stream of tokens cut into segments, a segment may continue a parent segment.
//!
//! There is no padding and no mask. Segments stand in depth-first order, so the rows that come after row `j` inside
//! the subtree of `j`'s segment are exactly the rows that may look at `j`:
//!
//! ```text
//! row i sees row j   ⟺   j ≤ i  and  i < end[j]  and  position[i] − position[j] < window
//! ```
//!
//! A token's position is its depth from the root. Every kernel outside attention sees a plain [T, D] matrix.
use crate::error::{Error, Result};
use std::any::Any;
use std::sync::OnceLock;

/// A batch of token sequences that may share prefixes.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    /// Token ids, all segments one after another: [T].
    pub tokens: Vec<u32>,
    /// In the order of the stream; parents stand before their children.
    pub segments: Vec<Segment>,
}

/// Rows `start .. start + len` of the stream, continuing `parent` (an earlier segment) or starting a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First row of the stream.
    pub start: usize,
    /// Number of rows; at least 1.
    pub len: usize,
    /// The segment that this one continues; None for a root.
    pub parent: Option<usize>,
    /// Position of the first token: the length of all ancestors together.
    pub first_position: usize,
}

impl Forest {
    /// A batch without segments.
    pub fn new() -> Self {
        Self::default()
    }

    /// One root a sequence: SFT, packed documents.
    pub fn from_sequences<S: AsRef<[u32]>>(sequences: &[S]) -> Result<Self> {
        let mut forest = Forest::new();
        for tokens in sequences {
            forest.push(None, tokens.as_ref())?;
        }
        Ok(forest)
    }

    /// Appends a segment and returns its index. Depth-first order is required: `parent` must be the last segment, or
    /// one of the last segment's ancestors.
    pub fn push(&mut self, parent: Option<usize>, tokens: &[u32]) -> Result<usize> {
        if tokens.is_empty() {
            return Err(Error::shape("forest", "a segment needs at least one token"));
        }
        let first_position = match parent {
            None => 0,
            Some(p) => {
                let mut open = self.segments.len().checked_sub(1);
                while open.is_some_and(|s| s != p) {
                    open = open.and_then(|s| self.segments[s].parent);
                }
                if open.is_none() {
                    return Err(Error::shape("forest", format!("segment {p} is closed; children come depth first")));
                }
                self.segments[p].first_position + self.segments[p].len
            }
        };
        self.segments.push(Segment { start: self.tokens.len(), len: tokens.len(), parent, first_position });
        self.tokens.extend_from_slice(tokens);
        Ok(self.segments.len() - 1)
    }

    /// T, the number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Depth of each token from its root: [T].
    pub fn positions(&self) -> Vec<u32> {
        self.segments.iter().flat_map(|s| (s.first_position..s.first_position + s.len).map(|p| p as u32)).collect()
    }

    /// For each row the end of its segment's subtree, the first row that does not see it: [T].
    pub fn ends(&self) -> Vec<u32> {
        let mut segment_end: Vec<usize> = self.segments.iter().map(|s| s.start + s.len).collect();
        for i in (0..self.segments.len()).rev() {
            if let Some(p) = self.segments[i].parent {
                segment_end[p] = segment_end[p].max(segment_end[i]);
            }
        }
        self.segments.iter().zip(&segment_end).flat_map(|(s, &e)| std::iter::repeat_n(e as u32, s.len)).collect()
    }

    /// Rows of segment `index` and its ancestors, by position: element p is the row of the token at position p.
    pub fn path_rows(&self, index: usize) -> Vec<u32> {
        let mut chain = vec![index];
        while let Some(p) = self.segments[chain[chain.len() - 1]].parent {
            chain.push(p);
        }
        chain
            .iter()
            .rev()
            .flat_map(|&s| self.segments[s].start as u32..(self.segments[s].start + self.segments[s].len) as u32)
            .collect()
    }

    /// What attention needs to know about this forest when every row is both query and key.
    pub fn attention_plan(&self) -> AttentionPlan {
        let mut plan = AttentionPlan {
            n_keys: self.n_tokens(),
            positions: self.positions(),
            ends: self.ends(),
            ..Default::default()
        };
        for (i, s) in self.segments.iter().enumerate() {
            let path = self.path_rows(i);
            plan.push_queries(s.len, s.first_position, &path);
        }
        plan
    }
}

/// Who looks at whom: runs of query rows, and for each run the key rows by position.
///
/// Forward: query row `start + r` of a run (r < len) has position `first_position + r` and sees the keys
/// `path_rows[path_offset + p]` for `p` in `max(0, position + 1 − window) ..= position`, in this order.
/// Training has queries = keys = rows of one forest; decoding has one query row per sequence and the rows of a
/// KV cache as keys.
#[derive(Debug, Default)]
pub struct AttentionPlan {
    /// Query rows, run after run without gaps: run i starts where run i − 1 ended.
    pub runs: Vec<Run>,
    /// Key rows by position, the paths of all runs one after another.
    pub path_rows: Vec<u32>,
    /// S, the number of key rows.
    pub n_keys: usize,
    /// Position of each key row: [S]. Empty when no gradient is wanted (decoding).
    pub positions: Vec<u32>,
    /// First row that does not see the key row any more: [S]. Empty when no gradient is wanted.
    pub ends: Vec<u32>,
    /// What a backend derives from the plan and keeps beside it (device buffers, tile lists).
    pub derived: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// Query rows of one segment: they stand one after another, and each sees the path up to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// First query row.
    pub start: usize,
    /// Number of query rows.
    pub len: usize,
    /// Position of the first query row.
    pub first_position: usize,
    /// Where the run's path starts in `path_rows`; it has `first_position + len` entries.
    pub path_offset: usize,
}

impl AttentionPlan {
    /// T, the number of query rows.
    pub fn n_queries(&self) -> usize {
        self.runs.last().map_or(0, |r| r.start + r.len)
    }
    /// Appends a run of queries; `path` holds the key row of every position up to the last query's.
    pub fn push_queries(&mut self, len: usize, first_position: usize, path: &[u32]) {
        debug_assert_eq!(path.len(), first_position + len);
        self.runs.push(Run { start: self.n_queries(), len, first_position, path_offset: self.path_rows.len() });
        self.path_rows.extend_from_slice(path);
    }
}
