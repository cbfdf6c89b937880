//! What a model answers to held-out prompts, at each evaluation: lines of samples.jsonl.
use super::Job;
use crate::data::Sequence;
use crate::error::Result;
use crate::options::EvaluationSampleOptions;
use crate::run::SamplesFile;
use engine::generate::{Sampling, generate};
use serde_json::json;

/// The prompts, and where the answers go.
pub struct EvalSamples {
    prompts: Vec<Sequence>,
    sampling: Sampling,
    file: SamplesFile,
}

impl EvalSamples {
    /// The first prompts of `rows` that differ, with the answers they have there; None where nobody asks for them. Prompts that
    /// leave no room for an answer are left out, and told.
    pub fn open<'a>(
        options: &EvaluationSampleOptions,
        job: &Job,
        rows: impl IntoIterator<Item = &'a Sequence>,
    ) -> Result<Option<EvalSamples>> {
        if !options.log_completions {
            return Ok(None);
        }
        let room = job.source.files.config.max_position_embeddings.saturating_sub(options.max_new_tokens);
        let (mut prompts, mut too_long): (Vec<Sequence>, usize) = (Vec::new(), 0);
        for row in rows {
            if prompts.len() == options.num_prompts {
                break;
            }
            match row.prompt() {
                prompt if prompts.iter().any(|known| known.prompt() == prompt) => {}
                prompt if prompt.is_empty() || prompt.len() > room => too_long += 1,
                _ => prompts.push(row.clone()),
            }
        }
        if too_long > 0 {
            job.progress.say(&format!(
                "note: log_completions: {} left out: no room for an answer of {} tokens, or no prompt",
                crate::plural::counted(too_long, "row"),
                options.max_new_tokens
            ));
        }
        if prompts.is_empty() {
            job.progress.say("note: log_completions: no evaluation row has a prompt to answer");
            return Ok(None);
        }
        let stop_tokens = job.source.stop_tokens();
        let sampling =
            Sampling { max_new_tokens: options.max_new_tokens, temperature: 0.0, stop_tokens, ..Sampling::default() };
        let file = SamplesFile::open(job.directory(), job.resumed.as_ref().map(|checkpoint| checkpoint.step))?;
        Ok(Some(EvalSamples { prompts, sampling, file }))
    }

    /// Answers the prompts with the model as it is now.
    pub fn draw(&mut self, job: &Job) -> Result<()> {
        let (tokenizer, step) = (&job.source.tokenizer, job.state.global_step);
        let prompts: Vec<Vec<u32>> = self.prompts.iter().map(|row| row.prompt().to_vec()).collect();
        let drawn = generate(&job.learner.model, &prompts, 1, &self.sampling, |_, _| true)?;
        let mut lines = Vec::new();
        for (row, one) in self.prompts.iter().zip(drawn) {
            lines.push(json!({
                "step": step, "prompt": tokenizer.decode(row.prompt())?, "completion": tokenizer.decode_plain(&one.tokens)?,
                "reference": tokenizer.decode_plain(row.answer())?, "length": one.tokens.len(), "ended": one.stopped,
            }));
        }
        self.file.write(&lines)
    }
}
