//! Mistakes of attention, and the reference with one of them.
use super::Fault::SoftmaxAttention as Of;
use super::*;
use crate::forest::{AttentionPlan, Run};
use crate::verify::attention::cases;
use Mistake::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mistake {
    ScoreScale,
    ScoreScaleBackward,
    Window,
    WindowBackward,
    OwnKey,
    SiblingsBackward,
    HeadGroups,
    AttentionUpstream,
    DecodedAlone,
}

pub(super) const PLANTED: &[Planted] = &[
    (Of(ScoreScale), "attention", cases),
    (Of(ScoreScaleBackward), "attention_backward", cases),
    (Of(Window), "attention", cases),
    (Of(WindowBackward), "attention_backward", cases),
    (Of(OwnKey), "attention", cases),
    (Of(SiblingsBackward), "attention_backward", cases),
    (Of(HeadGroups), "attention", cases),
    (Of(AttentionUpstream), "attention_backward", cases),
];

/// Those that only show beside other rows.
pub(super) const ALONE: &[Fault] = &[Of(DecodedAlone)];

impl SoftmaxAttention for Faulty {
    fn attention(&self, inputs: AttentionInputs<'_>) -> Result<(Buffer, Buffer)> {
        let AttentionInputs { mut shape, plan, q, k, v } = inputs;
        match self.0 {
            Of(ScoreScale) => shape.scale = 1.0,
            Of(Window) => shape.window = shape.window.saturating_add(1),
            Of(OwnKey) => {
                // every path one row late: the query's own key is not seen, its parent's twice
                let late = replanned(plan, |plan| {
                    for Run { len, first_position, path_offset, .. } in plan.runs.clone() {
                        plan.path_rows[path_offset..][..first_position + len].rotate_right(1);
                    }
                });
                return Reference.attention(AttentionInputs { shape, plan: &late, q, k, v });
            }
            Of(HeadGroups) => {
                let q = regrouped(q, shape, shape.head_size, false)?;
                let (o, lse) = Reference.attention(AttentionInputs { shape, plan, q: &q, k, v })?;
                return Ok((regrouped(&o, shape, shape.head_size, true)?, regrouped(&lse, shape, 1, true)?));
            }
            Of(DecodedAlone) if plan.runs.iter().all(|run| run.len == 1) => {
                let (o, lse) = Reference.attention(AttentionInputs { shape, plan, q, k, v })?;
                return Ok((changed(&o, |o| next_float(o))?, lse));
            }
            _ => {}
        }
        Reference.attention(AttentionInputs { shape, plan, q, k, v })
    }

    fn attention_backward(
        &self,
        inputs: AttentionInputs<'_>,
        o: &Buffer,
        lse: &Buffer,
        d_o: &Buffer,
    ) -> Result<(Buffer, Buffer, Buffer)> {
        let AttentionInputs { mut shape, plan, q, k, v } = inputs;
        let mut faulty_plan = replanned(plan, |_| {});
        let all = ones(d_o.f32()?.len());
        let mut d_o = d_o;
        match self.0 {
            Of(ScoreScaleBackward) => shape.scale = 1.0,
            Of(WindowBackward) => shape.window = shape.window.saturating_add(1),
            Of(AttentionUpstream) => d_o = &all,
            // a row is seen once too often: by the first row after its subtree
            Of(SiblingsBackward) => faulty_plan.ends.iter_mut().for_each(|end| *end += 1),
            _ => {}
        }
        Reference.attention_backward(AttentionInputs { shape, plan: &faulty_plan, q, k, v }, o, lse, d_o)
    }
}

/// The plan with other runs, paths and ends.
fn replanned(plan: &AttentionPlan, change: impl FnOnce(&mut AttentionPlan)) -> AttentionPlan {
    let mut copy = AttentionPlan {
        runs: plan.runs.clone(),
        path_rows: plan.path_rows.clone(),
        n_keys: plan.n_keys,
        positions: plan.positions.clone(),
        ends: plan.ends.clone(),
        ..Default::default()
    };
    change(&mut copy);
    copy
}

/// x [rows, H, width] with head h moved to where h/(H/K) puts the heads that belong to key head h mod K, or back.
fn regrouped(x: &Buffer, shape: AttentionShape, width: usize, back: bool) -> Result<Buffer> {
    let (h, k) = (shape.n_heads, shape.n_kv_heads);
    changed(x, |values| {
        let old = values.clone();
        for (i, from) in old.chunks(width).enumerate() {
            let (row, head) = (i / h, i % h);
            let other = row * h + head % k * (h / k) + head / k;
            let (to, from) = if back { (i, &old[other * width..][..width]) } else { (other, from) };
            values[to * width..][..width].copy_from_slice(from);
        }
    })
}
