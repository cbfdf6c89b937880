//! The [`Backend`] trait on a GPU: each kernel is in the file that its group names.
use super::transformer::RopeShape;
use super::{Gpu, shared};
use crate::backend::{
    AdamWStep, AttentionShape, Backend, Binary, Choice, Draw, LogProbs, Product, RowIndex, Trained, Unary,
};
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::forest::AttentionPlan;
use crate::random::Stream;

impl Backend for Gpu {
    fn name(&self) -> String {
        self.label.clone()
    }
    fn is_host(&self) -> bool {
        false
    }

    fn shares_host_memory(&self) -> bool {
        self.shares_host_memory
    }
    fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }

    // ---- memory ----
    fn upload(&self, values: Host) -> Result<Buffer> {
        Ok(shared(self.upload_host(&values)?))
    }
    fn download(&self, x: &Buffer) -> Result<Host> {
        let x = self.gpu_buffer("download", x)?;
        self.download_hosts(&[x])?.pop().ok_or_else(|| Error::shape("download", "nothing came back"))
    }
    fn zeros(&self, n: usize) -> Result<Buffer> {
        let x = self.new_f32(n)?;
        self.clear(&x)?;
        Ok(shared(x))
    }
    fn download_f32(&self, xs: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        let buffers = xs.iter().map(|x| self.f32("download_f32", x, 0)).collect::<Result<Vec<_>>>()?;
        Ok(self.read(&buffers)?.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect())
    }
    fn download_all(&self, xs: &[&Buffer]) -> Result<Vec<Host>> {
        let buffers = xs.iter().map(|x| self.gpu_buffer("download_all", x)).collect::<Result<Vec<_>>>()?;
        self.download_hosts(&buffers)
    }
    fn cast(&self, x: &Buffer, n: usize, to: DType) -> Result<Buffer> {
        self.run_cast(x, n, to)
    }
    fn synchronize(&self) -> Result<()> {
        self.wait()
    }

    // ---- elementwise ----
    fn unary(&self, op: Unary, x: &Buffer, n: usize) -> Result<Buffer> {
        self.run_unary(op, x, n)
    }
    fn unary_backward(&self, op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, n: usize) -> Result<Buffer> {
        self.run_unary_backward(op, x, y, dy, n)
    }
    fn binary(&self, op: Binary, a: &Buffer, b: &Buffer, n: usize, n_b: usize) -> Result<Buffer> {
        self.run_binary(op, a, b, n, n_b)
    }
    fn add_scaled(&self, y: &mut Buffer, alpha: f32, x: &Buffer, n: usize) -> Result<()> {
        self.run_add_scaled(y, alpha, x, n)
    }
    fn dropout(&self, x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer> {
        self.run_dropout(x, n, p, stream)
    }

    // ---- reductions ----
    fn sum_rows(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        self.run_sum_rows(x, m, n)
    }
    fn sum_squares(&self, xs: &[(&Buffer, usize)]) -> Result<Vec<f64>> {
        self.run_sum_squares(xs)
    }

    // ---- products ----
    fn matmul(&self, p: Product, a: &Buffer, b: &Buffer, c: Option<Buffer>) -> Result<Buffer> {
        self.run_matmul(p, a, b, c)
    }

    // ---- rows ----
    fn gather_rows(&self, table: &Buffer, index: &RowIndex, d: usize) -> Result<Buffer> {
        self.run_gather_rows(table, index, d)
    }
    fn scatter_add_rows(&self, dy: &Buffer, index: &RowIndex, n_rows: usize, d: usize) -> Result<Buffer> {
        self.run_scatter_add_rows(dy, index, n_rows, d)
    }
    fn write_rows(&self, cache: &mut Buffer, x: &Buffer, index: &RowIndex, d: usize) -> Result<()> {
        self.run_write_rows(cache, x, index, d)
    }

    // ---- the transformer's own ----
    fn rms_norm(&self, x: &Buffer, w: &Buffer, m: usize, d: usize, epsilon: f32) -> Result<(Buffer, Buffer)> {
        self.run_rms_norm(x, w, m, d, epsilon)
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
        self.run_add_rms_norm(x, f, w, m, d, epsilon)
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
        self.run_rms_norm_backward([dy, x, w, rstd], onto, m, d, need_dw)
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
        self.run_rope(x, cos_sin, positions, RopeShape { t, heads, e, rotary, inverse })
    }
    fn swiglu(&self, gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer> {
        self.run_swiglu(gate, up, n)
    }
    fn swiglu_backward(&self, dy: &Buffer, gate: &Buffer, up: &Buffer, n: usize) -> Result<(Buffer, Buffer)> {
        self.run_swiglu_backward(dy, gate, up, n)
    }
    fn attention(
        &self,
        shape: AttentionShape,
        plan: &AttentionPlan,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
    ) -> Result<(Buffer, Buffer)> {
        self.run_attention(shape, plan, q, k, v)
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
        self.run_attention_backward(shape, plan, q, k, v, o, lse, d_o)
    }

    // ---- the LM head, chunk by chunk ----
    fn log_probs(&self, logits: &Buffer, targets: &Buffer, m: usize, v: usize) -> Result<LogProbs> {
        self.run_log_probs(logits, targets, m, v)
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
        self.run_log_probs_backward(logits, targets, log_sum_exp, dlogp, m, v, scale)
    }

    fn sample(&self, logits: &Buffer, v: usize, choice: Choice, draws: &[Draw<'_>]) -> Result<Buffer> {
        self.run_sample(logits, v, choice, draws)
    }

    // ---- optimisers ----
    fn adamw(&self, tensors: &mut [Trained<'_>], step: AdamWStep) -> Result<()> {
        self.run_adamw(tensors, step)
    }
}
