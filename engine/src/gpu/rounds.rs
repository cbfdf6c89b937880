//! Rounds of a thread's loops in attention. Mesa's software Vulkan ends all loops of a thread, without a word, after 65,535 rounds
//! together (`LP_MAX_TGSI_LOOP_ITERATIONS` of its gallivm, "shared between every loop"): what would be wrong there is refused.
//!
//! A loop of n rounds counts n + 1, loops of a constant few are unrolled by the compiler and count nothing. Forward the
//! sums below were found to be exact on Mesa 22.3: a path of 428 blocks of 64 keys is right, one of 429 is wrong. The backward's are counted in the
//! same way.
use crate::backend::{AttentionRung, AttentionShape};
use crate::error::{Error, Result};
use crate::forest::AttentionPlan;

/// The most that software Vulkan takes.
const MOST: usize = 65_535;

/// Keys, or query rows, of a block.
const BLOCK: usize = 64;

/// Errors: a thread has more rounds than software Vulkan takes.
pub(super) fn check(label: &str, rung: AttentionRung, rounds: usize) -> Result<()> {
    if rounds <= MOST {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "attention ({rung:?}) on {label}: this batch takes {rounds} rounds of a thread's loops, and software Vulkan stops after {MOST}; \
         shorten the sequences, or use the CPU"
    )))
}

/// Of the forward; `rows` pairs share a workgroup.
pub(super) fn forward(rung: AttentionRung, shape: AttentionShape, rows: usize, plan: &AttentionPlan) -> usize {
    let longest = plan.runs.iter().map(|run| run.first_position + run.len).max().unwrap_or(0);
    // A block more, as a window may begin inside one.
    let seen = longest.min(shape.window.saturating_add(rows + BLOCK));
    let (e, columns, blocks) = (shape.head_size, shape.head_size.div_ceil(64), seen.div_ceil(BLOCK));
    let before_and_after = e * rows / 256 + 8;
    before_and_after.saturating_add(match rung {
        AttentionRung::Plain => seen.saturating_mul(2 * pair(e)),
        AttentionRung::Tiled => blocks.saturating_mul(e + BLOCK * (columns + 2) + 69),
        AttentionRung::Shared => blocks.saturating_mul(e + rows + BLOCK / rows.max(1) + 69),
    })
}

/// Of the backward, its kernel for keys: the one with most, as it goes through all heads of a group.
pub(super) fn backward(rung: AttentionRung, shape: AttentionShape, plan: &AttentionPlan) -> usize {
    let below = |(row, &end): (usize, &u32)| (end as usize).saturating_sub(row);
    let longest = plan.ends.iter().enumerate().map(below).max().unwrap_or(0);
    let (e, columns) = (shape.head_size, shape.head_size.div_ceil(64));
    let heads = shape.n_heads / shape.n_kv_heads.max(1);
    let blocks = longest.div_ceil(BLOCK) + 1;
    match rung {
        // Rows before a query's own are passed over one by one.
        AttentionRung::Plain => plan.n_queries().saturating_add((heads * pair(e)).saturating_mul(longest)),
        AttentionRung::Tiled => (heads * (2 * pair(e) + BLOCK * (columns + 2) + 4)).saturating_mul(blocks),
        AttentionRung::Shared => (heads * (e + BLOCK + 4) + 2).saturating_mul(blocks).saturating_add(e + 64),
    }
}

/// Of one score: four entries a round, then the rest one by one; and the round that asks for it.
fn pair(e: usize) -> usize {
    e / 4 + e % 4 + 3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was right and wrong on Mesa 22.3, one query at the end of a path.
    #[test]
    fn forward_counts_are_those_measured() {
        for (rung, head_size, right) in [
            (AttentionRung::Shared, 8, 675),
            (AttentionRung::Shared, 64, 428),
            (AttentionRung::Shared, 128, 301),
            (AttentionRung::Tiled, 8, 243),
            (AttentionRung::Tiled, 64, 201),
        ] {
            let shape = AttentionShape { n_heads: 1, n_kv_heads: 1, head_size, scale: 1.0, window: usize::MAX };
            let rounds = |blocks: usize| {
                let mut plan = AttentionPlan { n_keys: blocks * BLOCK, ..Default::default() };
                let path: Vec<u32> = (0..plan.n_keys as u32).collect();
                plan.push_queries(1, path.len() - 1, &path);
                forward(rung, shape, 16, &plan)
            };
            assert!(check("", rung, rounds(right)).is_ok(), "{rung:?} {head_size}: {}", rounds(right));
            assert!(check("", rung, rounds(right + 1)).is_err(), "{rung:?} {head_size}: {}", rounds(right + 1));
        }
    }
}
