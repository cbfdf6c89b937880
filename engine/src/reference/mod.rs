//! The reference backend: plain loops, f64 accumulation, no threads. It is the definition of correct.
//!
//! One file an op, named as the op; the equation stands above the code, the backward below its forward. Values are
//! widened to f64, computed there, and rounded to f32 once, when they are stored. Speed is no aim.
mod adamw;
mod add_rms_norm;
mod attention;
mod cast;
pub mod check;
mod dropout;
mod elementwise;
#[cfg(test)]
mod gradients;
mod log_probs;
mod matmul;
mod reductions;
mod rms_norm;
mod rope;
mod rows;
mod sample;
mod swiglu;

use crate::backend::*;
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::error::Result;
use crate::forest::AttentionPlan;
use crate::random::Stream;

/// The backend that the others are compared with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl Backend for Reference {
    fn name(&self) -> String {
        "reference".into()
    }
    fn is_host(&self) -> bool {
        true
    }

    fn upload(&self, values: Host) -> Result<Buffer> {
        Ok(Buffer::host(values))
    }
    fn download(&self, x: &Buffer) -> Result<Host> {
        x.as_host().cloned()
    }
    fn zeros(&self, n: usize) -> Result<Buffer> {
        Ok(Buffer::from_f32(vec![0.0; n]))
    }
    fn download_f32(&self, xs: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        xs.iter().map(|x| x.f32().map(<[f32]>::to_vec)).collect()
    }
    fn cast(&self, x: &Buffer, n: usize, to: DType) -> Result<Buffer> {
        cast::cast(x, n, to)
    }
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn unary(&self, op: Unary, x: &Buffer, n: usize) -> Result<Buffer> {
        elementwise::unary(op, x, n)
    }
    fn unary_backward(&self, op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, n: usize) -> Result<Buffer> {
        elementwise::unary_backward(op, x, y, dy, n)
    }
    fn binary(&self, op: Binary, a: &Buffer, b: &Buffer, n: usize, n_b: usize) -> Result<Buffer> {
        elementwise::binary(op, a, b, n, n_b)
    }
    fn add_scaled(&self, y: &mut Buffer, alpha: f32, x: &Buffer, n: usize) -> Result<()> {
        elementwise::add_scaled(y, alpha, x, n)
    }
    fn dropout(&self, x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer> {
        dropout::dropout(x, n, p, stream)
    }

    fn sum_rows(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        reductions::sum_rows(x, m, n)
    }
    fn sum_squares(&self, xs: &[(&Buffer, usize)]) -> Result<Vec<f64>> {
        reductions::sum_squares(xs)
    }

    fn matmul(&self, p: Product, a: &Buffer, b: &Buffer, c: Option<Buffer>) -> Result<Buffer> {
        matmul::matmul(p, a, b, c)
    }

    fn gather_rows(&self, table: &Buffer, index: &RowIndex, d: usize) -> Result<Buffer> {
        rows::gather_rows(table, index, d)
    }
    fn scatter_add_rows(&self, dy: &Buffer, index: &RowIndex, n_rows: usize, d: usize) -> Result<Buffer> {
        rows::scatter_add_rows(dy, index, n_rows, d)
    }
    fn write_rows(&self, cache: &mut Buffer, x: &Buffer, index: &RowIndex, d: usize) -> Result<()> {
        rows::write_rows(cache, x, index, d)
    }

    fn rms_norm(&self, x: &Buffer, w: &Buffer, m: usize, d: usize, epsilon: f32) -> Result<(Buffer, Buffer)> {
        rms_norm::rms_norm(x, w, m, d, epsilon)
    }
    fn add_rms_norm(
        &self,
        x: &Buffer,
        f: Buffer,
        w: &Buffer,
        m: usize,
        d: usize,
        epsilon: f32,
    ) -> Result<(Buffer, Buffer, Buffer)> {
        add_rms_norm::add_rms_norm(x, f, w, m, d, epsilon)
    }
    fn rms_norm_backward(
        &self,
        dy: &Buffer,
        x: &Buffer,
        w: &Buffer,
        rstd: &Buffer,
        onto: Option<Buffer>,
        m: usize,
        d: usize,
        need_dw: bool,
    ) -> Result<(Buffer, Option<Buffer>)> {
        rms_norm::rms_norm_backward([dy, x, w, rstd], onto, m, d, need_dw)
    }
    fn rope(
        &self,
        x: &Buffer,
        cos_sin: &Buffer,
        positions: &Buffer,
        t: usize,
        heads: usize,
        e: usize,
        rotary: usize,
        inverse: bool,
    ) -> Result<Buffer> {
        rope::rope(x, cos_sin, positions, [t, heads, e], rotary, inverse)
    }
    fn swiglu(&self, gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer> {
        swiglu::swiglu(gate, up, n)
    }
    fn swiglu_backward(&self, dy: &Buffer, gate: &Buffer, up: &Buffer, n: usize) -> Result<(Buffer, Buffer)> {
        swiglu::swiglu_backward(dy, gate, up, n)
    }
    fn attention(
        &self,
        shape: AttentionShape,
        plan: &AttentionPlan,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
    ) -> Result<(Buffer, Buffer)> {
        attention::attention(shape, plan, q, k, v)
    }
    fn attention_backward(
        &self,
        shape: AttentionShape,
        plan: &AttentionPlan,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
        o: &Buffer,
        lse: &Buffer,
        d_o: &Buffer,
    ) -> Result<(Buffer, Buffer, Buffer)> {
        attention::attention_backward(shape, plan, [q, k, v, o, lse, d_o])
    }

    fn log_probs(&self, logits: &Buffer, targets: &Buffer, m: usize, v: usize) -> Result<LogProbs> {
        log_probs::log_probs(logits, targets, m, v)
    }
    fn log_probs_backward(
        &self,
        logits: Buffer,
        targets: &Buffer,
        log_sum_exp: &Buffer,
        dlogp: &Buffer,
        m: usize,
        v: usize,
        scale: f32,
    ) -> Result<Buffer> {
        log_probs::log_probs_backward(&logits, targets, log_sum_exp, dlogp, [m, v], scale)
    }
    fn sample(&self, logits: &Buffer, v: usize, choice: Choice, draws: &[Draw<'_>]) -> Result<Buffer> {
        sample::sample(logits, v, choice, draws)
    }

    fn adamw(&self, tensors: &mut [Trained<'_>], step: AdamWStep) -> Result<()> {
        tensors.iter_mut().try_for_each(|tensor| adamw::adamw(tensor, step))
    }
}
