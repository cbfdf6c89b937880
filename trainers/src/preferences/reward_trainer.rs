//! Reward models: learn a number for an answer, so that preferred answers get the higher one.
//!
//! It differs from supervised fine-tuning in the model's head, one row instead of the vocabulary's, and in the loss: of
//! two answers (Bradley and Terry) or a ranking of several (Plackett and Luce) to one prompt, only differences count.
//! The prompt is computed once for all its answers.
use crate::data::answers::{Rules, encode_rankings};
use crate::data::preference_rows::ranked_rows;
use crate::data::{Ranking, Sequence};
use crate::error::Result;
use crate::job::learner::loss_device;
use crate::job::need::Beside;
use crate::job::{Job, Measured, Summary};
use crate::judges::reward_model::{forest_of, rewards};
use crate::losses::reward::{bradley_terry, centering, plackett_luce, sum_of};
use crate::losses::sequences::pick;
use crate::options::RewardOptions;
use crate::preferences::{self, Objective, Rows, Set, known, shared_size};
use crate::statistics::mean_f32;
use engine::config::{Head, SCORE};
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::random::Stream;
use engine::tensor::Tensor;

/// The loss of rankings, summed: from the rewards of all their answers [N], the rankings one after another.
type RankingLoss = fn(&Tensor, &[&Ranking]) -> Result<Tensor>;

/// Pairs, all at once.
fn pairs(rewards: &Tensor, rows: &[&Ranking]) -> Result<Tensor> {
    let n = rows.len();
    let (chosen, rejected) = (pick(rewards, (0..n).map(|p| 2 * p))?, pick(rewards, (0..n).map(|p| 2 * p + 1))?);
    let margin = match rows.iter().any(|row| row.margin.is_some()) {
        true => Some(known(rows.iter().map(|row| row.margin.unwrap_or(0.0)).collect())?),
        false => None,
    };
    Ok(ops::sum(&bradley_terry(&chosen, &rejected, margin.as_ref())?)?)
}

/// Rankings of any lengths, one by one.
fn rankings(rewards: &Tensor, rows: &[&Ranking]) -> Result<Tensor> {
    let mut start = 0;
    let mut losses = Vec::with_capacity(rows.len());
    for row in rows {
        let ranked: Vec<Tensor> =
            (start..start + row.answers.len()).map(|i| pick(rewards, [i])).collect::<engine::Result<_>>()?;
        losses.push(plackett_luce(&ranked)?);
        start += row.answers.len();
    }
    sum_of(&losses)?.ok_or_else(|| crate::Error::internal("a batch without rankings"))
}

/// Σ of (2 · mean reward)² over the rankings.
fn off_center(rewards: &Tensor, rows: &[&Ranking]) -> Result<Tensor> {
    let mut start = 0;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let of_row = pick(rewards, start..start + row.answers.len())?;
        all.push(centering(&ops::sum(&of_row)?, row.answers.len())?);
        start += row.answers.len();
    }
    sum_of(&all)?.ok_or_else(|| crate::Error::internal("a batch without rankings"))
}

/// The loss of these rows: pairs may have margins.
fn loss_of<'a>(mut rows: impl Iterator<Item = &'a Ranking>) -> RankingLoss {
    if rows.all(|row| row.answers.len() == 2) { pairs } else { rankings }
}

struct RewardObjective<'a> {
    options: &'a RewardOptions,
    rows: Rows<Ranking>,
    loss: RankingLoss,
}

/// TRL's metrics; of a ranking every pair of its answers counts.
fn metrics(rewards: &[f32], rows: &[&Ranking]) -> Vec<(&'static str, f64)> {
    let (mut start, mut ahead) = (0, Vec::new());
    for row in rows {
        let of_row = &rewards[start..start + row.answers.len()];
        for (i, better) in of_row.iter().enumerate() {
            ahead.extend(of_row[i + 1..].iter().map(|worse| better - worse));
        }
        start += row.answers.len();
    }
    let right = ahead.iter().filter(|&&a| a > 0.0).count();
    let fold = |f: fn(f32, f32) -> f32| f64::from(rewards.iter().copied().reduce(f).unwrap_or(f32::NAN));
    vec![
        ("accuracy", right as f64 / ahead.len() as f64),
        ("margin", mean_f32(&ahead)),
        ("min_reward", fold(f32::min)),
        ("mean_reward", mean_f32(rewards)),
        ("max_reward", fold(f32::max)),
    ]
}

impl Objective for RewardObjective<'_> {
    type Row = Ranking;

    fn rows(&mut self) -> &mut Rows<Ranking> {
        &mut self.rows
    }

    fn streamed(&mut self, _: usize) {
        self.loss = loss_of(self.rows.train.iter());
    }

    fn measure(&mut self, model: &Decoder, set: Set, rows: &[usize], step: &[usize], pass: Pass) -> Result<Measured> {
        let rows: Vec<&Ranking> = rows.iter().map(|&row| &self.rows.of(set)[row]).collect();
        let sequences: Vec<&Sequence> = rows.iter().flat_map(|row| &row.answers).collect();
        let rewards = ops::to_device(&rewards(model, &forest_of(&sequences)?, pass)?, &loss_device())?;
        let mut loss = ops::scale(&(self.loss)(&rewards, &rows)?, 1.0 / step.len() as f32)?;
        if let Some(coefficient) = self.options.loss.center_rewards_coefficient {
            let scale = coefficient as f32 / step.len() as f32;
            loss = ops::add(&loss, &ops::scale(&off_center(&rewards, &rows)?, scale)?)?;
        }
        let metrics = metrics(&rewards.to_vec()?, &rows);
        Ok(Measured { loss, metrics, n_tokens: sequences.iter().map(|s| s.ids.len() as u64).sum() })
    }
}

/// Stream of the seed that a new head is drawn from ("score" in ASCII).
const NEW_HEAD: u64 = 0x0073_636f_7265;

/// Draws a head for a model that had none: normal with the standard deviation of the configuration.
fn new_head(job: &mut Job, seed: u64) -> Result<()> {
    let std = job.source.files.config.raw.get("initializer_range").and_then(|v| v.as_f64()).unwrap_or(0.02) as f32;
    let (d, stream) = (job.source.files.config.hidden_size, Stream::new(seed, NEW_HEAD));
    let values = (0..d as u64).map(|i| std * stream.normal(i)).collect();
    if let Some(score) = &mut job.learner.model.score {
        score.tensor = Tensor::from_f32(&job.device, values, &[1, d])?;
    }
    Ok(())
}

/// Runs `lapidary reward`.
pub fn train(options: &RewardOptions) -> Result<Summary> {
    let mut source = preferences::open_source(&options.model, &options.lora, &options.text)?;
    // As TRL: what pads (EOS where nothing else does) is not scored.
    let pad = source.tokenizer.pad_id().or(source.tokenizer.eos_id());
    let config = &mut source.files.config;
    (config.head, config.pad_id) = (Head::Score, pad.or(config.pad_id));
    let has_head = source.files.weights.contains(SCORE) || options.lora.adapter_name_or_path.is_some();
    let encoding = preferences::encoding(&options.text, Rules::Whole);
    let mut rows = preferences::read(
        (&options.data, options.training.seed),
        &source.tokenizer,
        &encoding,
        |rows| ranked_rows(rows, true),
        encode_rankings,
    )?;
    let loss = loss_of(rows.train.iter().chain(&rows.eval));
    if !has_head {
        rows.notes.push("the model has no score.weight: its head starts at random, from the seed".into());
    }
    let size = |row: &Ranking| (shared_size(&row.answers.iter().collect::<Vec<_>>()).0, row.answers.len());
    let mut job = preferences::open(options, &options.data, source, &rows, size, Beside::default())?;
    if !has_head && job.resumed.is_none() {
        new_head(&mut job, options.training.seed)?;
    }
    let objective = RewardObjective { options, rows, loss };
    preferences::train(job, objective, &options.data, &options.training, (options.text.disable_dropout, None))
}
