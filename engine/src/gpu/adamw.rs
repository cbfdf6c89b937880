//! AdamW on all trained tensors at once, several in a dispatch.
//!
//! A tensor is a piece, or several where it does not fit a binding. Pieces are taken in order, as many as the kernel has
//! slots for; a device that shows a kernel too few buffers gets them one by one. Sizes and factors are data of the dispatch.
use super::counting::Cost;
use super::recorder::{Bind, Call};
use super::{Gpu, word};
use crate::backend::{AdamWStep, Optimise, Trained};
use crate::error::Result;
use crate::portable::power;

/// Tensors that adamw_many.wgsl takes, of four buffers each: Metal shows a kernel 29 buffers.
const ADAMW_SLOTS: usize = 7;

/// A tensor of `n` elements, or a window of it, and what AdamW changes there.
struct AdamWPiece<'a> {
    /// θ, m, v, gradient
    binds: [Bind<'a>; 4],
    n: u32,
    /// 1 − lr·wd
    decay: f32,
}

impl Optimise for Gpu {
    fn adamw(&self, tensors: &mut [Trained<'_>], step: AdamWStep) -> Result<()> {
        let op = "adamw";
        for t in &*tensors {
            for x in [&*t.p, &*t.m, &*t.v, t.grad] {
                self.f32(op, x, t.n)?;
            }
            word(op, t.n)?;
        }
        let mut pieces = Vec::with_capacity(tensors.len());
        for t in tensors {
            let decay = (1.0 - step.learning_rate * t.weight_decay) as f32;
            let grad = self.f32(op, t.grad, t.n)?;
            let (p, m, v) = (self.own(op, t.p)?, self.own(op, t.m)?, self.own(op, t.v)?);
            for (first, len) in Gpu::ranges(t.n, self.elements_per_window()) {
                let binds = [p, m, v, grad].map(|x| self.window(x, first, len, 4).bind);
                pieces.push(AdamWPiece { binds, n: len as u32, decay });
            }
        }
        let many = self.max_bindings >= 4 * ADAMW_SLOTS;
        let (shader, slots) = if many { (shaders::ADAMW_MANY, ADAMW_SLOTS) } else { (shaders::ADAMW, 1) };
        for pieces in pieces.chunks(slots) {
            let fours = |piece: &AdamWPiece<'_>| piece.n.div_ceil(4);
            let mut params: Vec<u32> = pieces.iter().map(fours).collect();
            params.resize(slots, 0);
            params.extend(pieces.iter().map(|piece| piece.decay.to_bits()));
            params.resize(2 * slots, 0);
            params.extend(factors(step));
            let mut binds: Vec<Bind<'_>> = pieces.iter().flat_map(|piece| piece.binds).collect();
            // Slots without elements show the first tensor again and do nothing with it.
            while binds.len() < 4 * slots {
                binds.extend(pieces[0].binds);
            }
            let threads: u32 = pieces.iter().map(fours).sum();
            let groups = self.groups(threads.div_ceil(64) as usize);
            let n = threads as usize;
            let cost = Cost::flops(56 * n).in_place(true);
            let cost = if many { cost.reading(16 * n).writing(48 * n) } else { cost };
            self.dispatch(Call { shader, constants: &[], params: &params, binds: &binds, groups, cost })?;
        }
        Ok(())
    }
}

/// What all tensors of a step share, as the kernels read it: rounded once from f64.
fn factors(step: AdamWStep) -> [u32; 8] {
    let t = step.step as f64;
    let values = [
        f64::from(step.grad_scale),
        step.beta1,
        1.0 - step.beta1,
        step.beta2,
        1.0 - step.beta2,
        step.learning_rate / (1.0 - power(step.beta1, t)),
        1.0 / (1.0 - power(step.beta2, t)).sqrt(),
        step.epsilon,
    ];
    values.map(|x| (x as f32).to_bits())
}
