//! The sequences that are being continued together: prompts enter while there is room, finished sequences leave.
use super::Completion;
use super::generation_memory::cache_rows;
use super::rows::FreeRows;
use super::sampler::{Drawn, Sampling};
use crate::backend::{Draw, RowIndex};
use crate::buffer::{Buffer, Host};
use crate::error::{Error, Result};
use crate::forest::{AttentionPlan, Forest};
use crate::model::cache::KvCache;
use crate::model::decoder::Decoder;
use crate::random::Stream;
use crate::tensor::Tensor;
use std::collections::VecDeque;

/// A sequence being continued.
struct Active {
    completion: usize,
    /// Cache rows of every token so far, by position; the first are the prompt's.
    path: Vec<u32>,
    /// Rows for the tokens to come, the next one last.
    reserved: Vec<u32>,
    /// The token to feed next.
    last: u32,
    stream: Stream,
    /// Its distinct tokens so far in ascending order, where there is a repetition penalty.
    seen: Vec<u32>,
    /// The row of the current logits that says what follows.
    logits_row: usize,
}

/// The prompts, and who is at work on which.
pub(super) struct Batch<'a> {
    model: &'a Decoder,
    prompts: &'a [Vec<u32>],
    sampling: &'a Sampling,
    n_samples: usize,
    waiting: VecDeque<usize>,
    active: Vec<Active>,
    /// Unfinished samples of each prompt: its own rows are given back with the last one.
    unfinished: Vec<usize>,
    rows: FreeRows,
    cache: KvCache,
}

impl<'a> Batch<'a> {
    pub fn new(
        model: &'a Decoder,
        prompts: &'a [Vec<u32>],
        n_samples: usize,
        sampling: &'a Sampling,
    ) -> Result<Batch<'a>> {
        let c = &model.config;
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let n_rows = cache_rows(c, &lengths, n_samples, sampling);
        Ok(Batch {
            model,
            prompts,
            sampling,
            n_samples,
            waiting: (0..prompts.len()).collect(),
            active: vec![],
            unfinished: vec![n_samples; prompts.len()],
            rows: FreeRows::new(n_rows),
            cache: KvCache::new(&model.device, c, n_rows)?,
        })
    }

    pub fn is_done(&self) -> bool {
        self.active.is_empty() && self.waiting.is_empty()
    }

    /// Computes as many waiting prompts as have room for all of their samples; the logits after each: [prompts, V].
    /// None if no prompt entered.
    pub fn admit(&mut self) -> Result<Option<Tensor>> {
        let (mut forest, mut at, mut entered) = (Forest::new(), vec![], vec![]);
        while let Some(&p) = self.waiting.front() {
            let prompt = &self.prompts[p];
            let (n, m) = (prompt.len(), self.sampling.max_new_tokens);
            let Some(mut own) = self.rows.take(n + self.n_samples * m) else { break };
            self.waiting.pop_front();
            forest.push(None, prompt)?;
            let mut reserved = own.split_off(n);
            reserved.reverse();
            let mut seen = if self.sampling.repetition_penalty == 1.0 { vec![] } else { prompt.clone() };
            seen.sort_unstable();
            seen.dedup();
            for s in 0..self.n_samples {
                let completion = p * self.n_samples + s;
                self.active.push(Active {
                    completion,
                    path: own.clone(),
                    reserved: reserved.split_off(reserved.len() - m),
                    last: 0,
                    stream: Stream::new(self.sampling.seed, self.sampling.first_stream + completion as u64),
                    seen: seen.clone(),
                    logits_row: entered.len(),
                });
            }
            at.extend(own);
            entered.push(p);
        }
        if entered.is_empty() {
            return Ok(None);
        }
        let mut plan = AttentionPlan { n_keys: self.cache.n_rows, ..Default::default() };
        for s in &forest.segments {
            plan.push_queries(s.len, 0, &at[s.start..s.start + s.len]);
        }
        let hidden = self.model.hidden_cached(&forest.tokens, &forest.positions(), &at, plan, &mut self.cache)?;
        let last: Vec<u32> = forest.segments.iter().map(|s| (s.start + s.len - 1) as u32).collect();
        Ok(Some(self.model.logits_at(&hidden, &last, self.sampling.scale())?))
    }

    /// Sequences being continued; those that enter next get the indices from here on.
    pub fn n_active(&self) -> usize {
        self.active.len()
    }

    /// Feeds each sequence its last token; the logits after it: [active, V].
    pub fn step(&mut self) -> Result<Tensor> {
        let mut plan = AttentionPlan { n_keys: self.cache.n_rows, ..Default::default() };
        let (mut tokens, mut positions, mut rows) = (vec![], vec![], vec![]);
        for (i, a) in self.active.iter_mut().enumerate() {
            let Some(row) = a.reserved.pop() else { return Err(Error::shape("generate", "no row was reserved")) };
            tokens.push(a.last);
            positions.push(a.path.len() as u32);
            rows.push(row);
            a.path.push(row);
            plan.push_queries(1, a.path.len() - 1, &a.path);
            a.logits_row = i;
        }
        let hidden = self.model.hidden_cached(&tokens, &positions, &rows, plan, &mut self.cache)?;
        let all: Vec<u32> = (0..self.active.len() as u32).collect();
        self.model.logits_at(&hidden, &all, self.sampling.scale())
    }

    /// Draws the next token of the sequences from `first` on, from `logits` [rows, V], with its log-probability by the
    /// kernel that training uses, so that scoring it again gives the same bits. Only these two leave the device, together.
    /// The order of sequences is that of the result.
    pub fn draw(&mut self, first: usize, logits: &Tensor, done: &[Completion]) -> Result<Vec<(usize, Drawn)>> {
        let (device, v) = (&self.model.device, self.model.config.vocab_size);
        let z = self.logits_in_order(first, logits)?;
        let drawing = &mut self.active[first..];
        let index = |a: &Active| done[a.completion].tokens.len() as u64;
        let draws: Vec<Draw<'_>> =
            drawing.iter().map(|a| Draw { stream: a.stream, index: index(a), seen: &a.seen }).collect();
        let tokens = device.sample(&z, v, self.sampling.choice(), &draws)?;
        let logps = device.log_probs(&z, &tokens, draws.len(), v)?.logp;
        let [Host::U32(tokens), Host::F32(logps)] = &device.download_all(&[&tokens, &logps])?[..] else {
            return Err(Error::shape("generate", "tokens and log-probabilities came back as something else"));
        };
        let mut all = Vec::with_capacity(drawing.len());
        for (a, (&token, &logp)) in drawing.iter_mut().zip(tokens.iter().zip(logps)) {
            a.last = token;
            if self.sampling.repetition_penalty != 1.0
                && let Err(place) = a.seen.binary_search(&token)
            {
                a.seen.insert(place, token);
            }
            all.push((a.completion, Drawn { token, logp }));
        }
        Ok(all)
    }

    /// The logits of the sequences from `first` on, a row each: samples of one prompt have the first row in common.
    fn logits_in_order(&self, first: usize, logits: &Tensor) -> Result<Buffer> {
        let (device, v) = (&self.model.device, self.model.config.vocab_size);
        let rows: Vec<u32> = self.active[first..].iter().map(|a| a.logits_row as u32).collect();
        if rows.len() * v == logits.len() && rows.iter().enumerate().all(|(i, r)| i == *r as usize) {
            return Ok(logits.buffer().clone());
        }
        device.gather_rows(logits.buffer(), &RowIndex::new(&**device, &rows)?, v)
    }

    /// Lets those sequences leave whose completion `finished` says is done, and frees their rows.
    pub fn leave(&mut self, finished: impl Fn(usize) -> bool) {
        let Batch { active, rows, unfinished, prompts, n_samples, .. } = self;
        active.retain_mut(|a| {
            if !finished(a.completion) {
                return true;
            }
            let prompt = a.completion / *n_samples;
            rows.give_back(a.reserved.drain(..).chain(a.path.drain(prompts[prompt].len()..)));
            unfinished[prompt] -= 1;
            if unfinished[prompt] == 0 {
                rows.give_back(a.path.drain(..));
            }
            false
        });
    }
}
