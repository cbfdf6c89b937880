//! The CPU backend: vectorised kernels on threads of its own, with the same bits for any number of threads, any
//! instruction set and any neighbours in the batch.
//!
//! Files in reading order: `level` (instruction sets), `threads`, `check` (operands), `weights` (any dtype), `panels` (packed for generation), `math` (exp, ln, …),
//! `elementwise` and `reduce` (the two loops), `tile` (the register tile); then one file for each op.
mod adamw;
mod add_rms_norm;
mod attention;
mod binary;
mod cast;
mod check;
mod dropout;
mod elementwise;
mod level;
mod log_probs;
mod math;
mod matmul;
mod panels;
mod reduce;
mod rms_norm;
mod rope;
mod rows;
mod sample;
mod scratch;
mod sums;
mod swiglu;
#[cfg(test)]
mod tests;
mod threads;
mod tile;
mod unary;
mod weights;

use crate::backend::{
    AdamWStep, AttentionShape, Backend, Binary, Choice, Draw, LogProbs, Product, RowIndex, Trained, Unary,
};
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::error::Result;
use crate::forest::AttentionPlan;
use crate::random::Stream;
pub use level::Level;
pub use panels::Panels;
use std::sync::Arc;
use threads::Threads;

/// The CPU as a device.
#[derive(Debug)]
pub struct Cpu {
    threads: Threads,
    level: Level,
}

impl Cpu {
    /// A CPU device with `threads` threads (all the machine has if `None`) on the best instruction set.
    ///
    /// Errors: 0 threads, or threads that the system does not give.
    pub fn new(threads: Option<usize>) -> Result<Arc<Cpu>> {
        Cpu::with_level(threads, Level::best())
    }

    /// As `new`, on a given instruction set. `Error::Unsupported` if this machine lacks it.
    pub fn with_level(threads: Option<usize>, level: Level) -> Result<Arc<Cpu>> {
        keep_freed_memory();
        Ok(Arc::new(Cpu { level: level.checked()?, threads: Threads::new(threads)? }))
    }

    pub fn n_threads(&self) -> usize {
        self.threads.count()
    }

    pub fn level(&self) -> Level {
        self.level
    }
}

/// Tells glibc to keep freed memory of up to 32 MiB a piece for the next allocation: a step frees and takes the same
/// gigabyte of activations again, and pages fresh from the kernel cost a tenth of its time.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets parameters of the allocator; a value it does not take changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

impl Backend for Cpu {
    fn name(&self) -> String {
        let n = self.threads.count();
        format!("cpu ({n} thread{}, {})", if n == 1 { "" } else { "s" }, self.level.name())
    }
    fn is_host(&self) -> bool {
        true
    }

    fn upload(&self, values: Host) -> Result<Buffer> {
        Ok(Buffer::host(values))
    }
    fn download(&self, x: &Buffer) -> Result<Host> {
        check::host("download", "x", x).cloned()
    }
    fn zeros(&self, n: usize) -> Result<Buffer> {
        check::size("zeros", &[n])?;
        // SAFETY: every chunk is filled.
        let zeros = unsafe {
            threads::build_chunks(&self.threads, n, 1 << 20, |_, part| part.fill(std::mem::MaybeUninit::new(0f32)))?
        };
        Ok(Buffer::from_f32(zeros))
    }
    fn download_f32(&self, xs: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        xs.iter().map(|x| x.f32().map(<[f32]>::to_vec)).collect()
    }
    fn cast(&self, x: &Buffer, n: usize, to: DType) -> Result<Buffer> {
        cast::cast(self, x, n, to)
    }
    fn pack_weight(&self, w: &Buffer, n: usize, k: usize) -> Result<Buffer> {
        if matches!(w, Buffer::Packed(_)) {
            return Ok(w.clone());
        }
        let weights = weights::Weights::new("pack_weight", "W", w, n, k)?;
        Ok(Buffer::Packed(Arc::new(Panels::pack(&self.threads, weights, w.dtype(), n, k)?)))
    }
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn unary(&self, op: Unary, x: &Buffer, n: usize) -> Result<Buffer> {
        unary::unary(self, op, x, n)
    }
    fn unary_backward(&self, op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, n: usize) -> Result<Buffer> {
        unary::unary_backward(self, op, x, y, dy, n)
    }
    fn binary(&self, op: Binary, a: &Buffer, b: &Buffer, n: usize, n_b: usize) -> Result<Buffer> {
        binary::binary(self, op, a, b, n, n_b)
    }
    fn add_scaled(&self, y: &mut Buffer, alpha: f32, x: &Buffer, n: usize) -> Result<()> {
        binary::add_scaled(self, y, alpha, x, n)
    }
    fn dropout(&self, x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer> {
        dropout::dropout(self, x, n, p, stream)
    }

    fn sum_rows(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        sums::sum_rows(self, x, m, n)
    }
    fn sum_squares(&self, xs: &[(&Buffer, usize)]) -> Result<Vec<f64>> {
        sums::sum_squares(self, xs)
    }

    fn matmul(&self, p: Product, a: &Buffer, b: &Buffer, c: Option<Buffer>) -> Result<Buffer> {
        matmul::matmul(self, p, a, b, c)
    }

    fn gather_rows(&self, table: &Buffer, index: &RowIndex, d: usize) -> Result<Buffer> {
        rows::gather_rows(self, table, index, d)
    }
    fn scatter_add_rows(&self, dy: &Buffer, index: &RowIndex, n_rows: usize, d: usize) -> Result<Buffer> {
        rows::scatter_add_rows(self, dy, index, n_rows, d)
    }
    fn write_rows(&self, cache: &mut Buffer, x: &Buffer, index: &RowIndex, d: usize) -> Result<()> {
        rows::write_rows(cache, x, index, d)
    }

    fn rms_norm(&self, x: &Buffer, w: &Buffer, m: usize, d: usize, epsilon: f32) -> Result<(Buffer, Buffer)> {
        rms_norm::rms_norm(self, x, w, m, d, epsilon)
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
        add_rms_norm::add_rms_norm(self, x, f, w, [m, d], epsilon)
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
        rms_norm::rms_norm_backward(self, [dy, x, w, rstd], onto, m, d, need_dw)
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
        rope::rope(self, x, cos_sin, positions, [t, heads, e], rotary, inverse)
    }
    fn swiglu(&self, gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer> {
        swiglu::swiglu(self, gate, up, n)
    }
    fn swiglu_backward(&self, dy: &Buffer, gate: &Buffer, up: &Buffer, n: usize) -> Result<(Buffer, Buffer)> {
        swiglu::swiglu_backward(self, dy, gate, up, n)
    }
    fn attention(
        &self,
        shape: AttentionShape,
        plan: &AttentionPlan,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
    ) -> Result<(Buffer, Buffer)> {
        attention::attention(self, shape, plan, [q, k, v])
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
        attention::attention_backward(self, shape, plan, [q, k, v], [o, lse, d_o])
    }

    fn log_probs(&self, logits: &Buffer, targets: &Buffer, m: usize, v: usize) -> Result<LogProbs> {
        log_probs::log_probs(self, logits, targets, m, v)
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
        log_probs::log_probs_backward(self, logits, [targets, log_sum_exp, dlogp], m, v, scale)
    }
    fn sample(&self, logits: &Buffer, v: usize, choice: Choice, draws: &[Draw<'_>]) -> Result<Buffer> {
        sample::sample(self, logits, v, choice, draws)
    }

    fn adamw(&self, tensors: &mut [Trained<'_>], step: AdamWStep) -> Result<()> {
        tensors.iter_mut().try_for_each(|tensor| adamw::adamw(self, tensor, step))
    }
}
