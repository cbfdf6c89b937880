//! The LM head, chunk by chunk.
use crate::buffer::Buffer;
use crate::error::Result;

/// Per row of logits, what losses and metrics read: each [N].
#[derive(Debug)]
pub struct LogProbs {
    /// log softmax(logits)[target]
    pub logp: Buffer,
    /// −Σ p log p, in nats
    pub entropy: Buffer,
    /// log Σ exp(logits), saved for the backward
    pub log_sum_exp: Buffer,
    /// index of the largest logit (the lowest index among equals), u32
    pub argmax: Buffer,
}

/// What the backward of `log_probs` reads beside the logits [m, v].
#[derive(Clone, Copy, Debug)]
pub struct LogProbsBackward<'a> {
    /// u32 [m]
    pub targets: &'a Buffer,
    /// What the forward gave: [m].
    pub log_sum_exp: &'a Buffer,
    /// ∂loss/∂logp: [m].
    pub dlogp: &'a Buffer,
    /// Rows.
    pub m: usize,
    /// The vocabulary.
    pub v: usize,
    /// A factor on the gradient: what the logits were multiplied by.
    pub scale: f32,
}

/// What rows of logits say about their targets.
pub trait LmHead {
    /// What a chunk of logits [m, v] (already divided by the temperature) says about its targets (u32 [m]).
    fn log_probs(&self, logits: &Buffer, targets: &Buffer, m: usize, v: usize) -> Result<LogProbs>;
    /// dlogits = dlogp · (onehot(target) − softmax(logits)), times `scale`; may reuse the logits' memory.
    fn log_probs_backward(&self, logits: Buffer, inputs: LogProbsBackward<'_>) -> Result<Buffer>;
}
