//! ORPO: supervised fine-tuning on the chosen answer, and at the same time odds that favour it over the rejected one.
//!
//! It differs from DPO in that there is no reference: what holds the policy is the likelihood of the chosen sequence,
//! prompt included.
use crate::data::answers::{Rules, encode_rankings};
use crate::data::preference_rows::ranked_rows;
use crate::data::{Ranking, Sequence};
use crate::error::Result;
use crate::job::need::Beside;
use crate::job::{Measured, Summary};
use crate::losses::dpo::Sides;
use crate::losses::orpo::{log_odds, odds_ratio_loss};
use crate::losses::sequences::pick;
use crate::options::OrpoOptions;
use crate::preferences::dpo::{pair_batch, pair_metrics, sequences, sides};
use crate::preferences::likelihoods::Answers;
use crate::preferences::{self, Objective, Rows, Set, known, shared_size};
use crate::statistics::mean_f32;
use engine::model::decoder::{Decoder, Pass};
use engine::ops;

struct Orpo<'a> {
    options: &'a OrpoOptions,
    rows: Rows<Ranking>,
}

/// Tokens of a sequence that are predicted: all but the first.
fn n_tokens(sequence: &Sequence) -> usize {
    sequence.ids.len() - 1
}

/// (Σ log π, mean log π) of both answers of each pair; `sums` [2P or more].
pub fn mean_logp(sums: &engine::tensor::Tensor, sequences: &[Sequence]) -> Result<Sides> {
    let n = sequences.len() / 2;
    let lengths = sides(&known(sequences.iter().map(|s| s.n_predicted() as f32).collect())?, n)?;
    let sums = sides(sums, n)?;
    Ok(Sides {
        chosen: ops::div(&sums.chosen, &lengths.chosen)?,
        rejected: ops::div(&sums.rejected, &lengths.rejected)?,
    })
}

impl Objective for Orpo<'_> {
    type Row = Ranking;

    fn rows(&mut self) -> &mut Rows<Ranking> {
        &mut self.rows
    }

    fn held_out(&self) -> Vec<&Sequence> {
        self.rows.eval.iter().filter_map(|pair| pair.answers.first()).collect()
    }

    fn measure(&mut self, model: &Decoder, set: Set, rows: &[usize], step: &[usize], pass: Pass) -> Result<Measured> {
        let (pairs, n) = (self.rows.of(set), rows.len());
        let sequences = sequences(pairs, rows);
        let batch = pair_batch(&sequences, true)?;
        let answers = Answers::score(model, &batch, pass)?;
        // Answers are the sequences below 2P, prompts come after them: a pair's own, or that of an earlier pair.
        let sums = answers.sums(4 * n)?;
        let logp = mean_logp(&sums, &sequences)?;
        let whole = pick(&sums, (0..n).flat_map(|p| [2 * p, batch.prompts[2 * p] as usize]))?;
        let n_step: usize = step.iter().map(|&row| n_tokens(&pairs[row].answers[0])).sum();
        let nll = ops::scale(&ops::sum(&whole)?, -1.0 / n_step as f32)?;
        let odds = log_odds(&logp.chosen, &logp.rejected)?;
        let ratio = odds_ratio_loss(&odds)?;
        let beta = self.options.loss.beta as f32;
        let loss = ops::add(&nll, &ops::scale(&ops::sum(&ratio)?, beta / step.len() as f32)?)?;
        let rewards = logp.map(|x| ops::scale(&x.detach(), beta))?;
        let mut metrics = pair_metrics(&answers, &rewards, &logp)?;
        let n_here: usize = sequences.iter().step_by(2).map(n_tokens).sum();
        metrics.push(("nll_loss", -whole.to_vec()?.iter().map(|&x| f64::from(x)).sum::<f64>() / n_here as f64));
        metrics.push(("log_odds_chosen", mean_f32(&odds.to_vec()?)));
        metrics.push(("log_odds_ratio", -mean_f32(&ratio.to_vec()?)));
        Ok(Measured { loss, metrics, n_tokens: sequences.iter().map(|s| s.ids.len() as u64).sum() })
    }
}

/// Runs `lapidary orpo`.
pub fn train(options: &OrpoOptions) -> Result<Summary> {
    let source = preferences::open_source(&options.model, &options.lora, &options.text)?;
    let encoding = preferences::encoding(&options.text, Rules::BosEos);
    let rows = preferences::read(
        (&options.data, options.training.seed),
        &source.tokenizer,
        &encoding,
        |rows| ranked_rows(rows, false),
        encode_rankings,
    )?;
    let size = |pair: &Ranking| {
        let (tokens, items) = shared_size(&pair.answers.iter().collect::<Vec<_>>());
        (tokens, items + pair.answers[0].start)
    };
    let job = preferences::open(options, &options.data, source, &rows, size, Beside::default())?;
    let objective = Orpo { options, rows };
    let how = (options.text.disable_dropout, Some(&options.samples));
    preferences::train(job, objective, &options.data, &options.training, how)
}
