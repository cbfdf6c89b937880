//! Contrastive preference optimisation, SimPO and AlphaPO: pairs without a reference.
//!
//! It differs from DPO in that log-probabilities count by themselves, not against a reference (SimPO: their mean over
//! tokens, with a margin γ), and in the likelihood of the chosen answer that is added.
use crate::data::answers::{Rules, encode_rankings};
use crate::data::preference_rows::ranked_rows;
use crate::data::{Ranking, Sequence};
use crate::error::Result;
use crate::job::need::Beside;
use crate::job::{Measured, Summary};
use crate::losses::cpo::{CpoSettings, DeltaLoss, alpha_reward};
use crate::options::CpoOptions;
use crate::preferences::dpo::{mean_chosen_length, pair_batch, pair_metrics, sequences, sides};
use crate::preferences::likelihoods::Answers;
use crate::preferences::orpo::mean_logp;
use crate::preferences::{self, Objective, Rows, Set, shared_size};
use engine::model::decoder::{Decoder, Pass};
use engine::ops;

struct Cpo<'a> {
    options: &'a CpoOptions,
    rows: Rows<Ranking>,
    loss: DeltaLoss,
    per_token: bool,
}

impl Objective for Cpo<'_> {
    type Row = Ranking;

    fn rows(&mut self) -> &mut Rows<Ranking> {
        &mut self.rows
    }

    fn held_out(&self) -> Vec<&Sequence> {
        self.rows.eval.iter().filter_map(|pair| pair.answers.first()).collect()
    }

    fn measure(&mut self, model: &Decoder, set: Set, rows: &[usize], step: &[usize], pass: Pass) -> Result<Measured> {
        let (options, pairs, n) = (&self.options.loss, self.rows.of(set), rows.len());
        let sequences = sequences(pairs, rows);
        let batch = pair_batch(&sequences, false)?;
        let answers = Answers::score(model, &batch, pass)?;
        let sums = answers.sums(2 * n)?;
        let by_side = sides(&sums, n)?;
        let logp = if self.per_token { mean_logp(&sums, &sequences)? } else { by_side.clone() };
        let reward = logp.map(|x| alpha_reward(x, options.alpha as f32))?;
        let settings = CpoSettings {
            beta: options.beta as f32,
            label_smoothing: options.label_smoothing as f32,
            simpo_gamma: options.simpo_gamma as f32,
        };
        let preferred = ops::sum(&(self.loss)(&reward.difference()?, settings)?)?;
        let mut loss = ops::scale(&preferred, 1.0 / step.len() as f32)?;
        let mut nll = 0.0;
        if options.cpo_alpha != 0.0 {
            let n_step = step.len() as f32 * mean_chosen_length(pairs, step);
            let sum = ops::sum(&by_side.chosen)?;
            loss = ops::add(&loss, &ops::scale(&sum, -(options.cpo_alpha as f32) / n_step)?)?;
            let n_here: usize = sequences.iter().step_by(2).map(|s| s.n_predicted()).sum();
            nll = -f64::from(sum.item()?) / n_here as f64;
        }
        let rewards = reward.map(|x| ops::scale(&x.detach(), settings.beta))?;
        let mut metrics = pair_metrics(&answers, &rewards, &logp)?;
        metrics.push(("nll_loss", nll));
        Ok(Measured { loss, metrics, n_tokens: sequences.iter().map(|s| s.ids.len() as u64).sum() })
    }
}

/// Runs `lapidary cpo`.
pub fn train(options: &CpoOptions) -> Result<Summary> {
    let source = preferences::open_source(&options.model, &options.lora, &options.text)?;
    let encoding = preferences::encoding(&options.text, Rules::BosEos);
    let rows = preferences::read(
        (&options.data, options.training.seed),
        &source.tokenizer,
        &encoding,
        |rows| ranked_rows(rows, false),
        encode_rankings,
    )?;
    let size = |pair: &Ranking| shared_size(&pair.answers.iter().collect::<Vec<_>>());
    let job = preferences::open(options, &options.data, source, &rows, size, Beside::default())?;
    let (loss, per_token) = options.loss.loss_type.value();
    let objective = Cpo { options, rows, loss, per_token };
    let how = (options.text.disable_dropout, Some(&options.samples));
    preferences::train(job, objective, &options.data, &options.training, how)
}
