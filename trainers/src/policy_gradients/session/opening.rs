//! What a run opens and checks before its first step: rewards, completions, what it reads.
use crate::error::{Error, Result};
use crate::job::Job;
use crate::job::setup::ModelSource;
use crate::options::{PolicyGradient, RolloutOptions, own_stop_strings};
use crate::policy_gradients::judged::Reward;
use crate::policy_gradients::prompts::PromptSet;
use crate::policy_gradients::rewards::Rewards;
use crate::policy_gradients::rewards::by_judge::open_model;
use crate::policy_gradients::rollout::{Drawing, FixedCompletions, Rollouts};
use std::path::Path;

/// The rewards that a run learns from, and those of the gold check; both are shown the prompts.
pub(super) fn open_rewards<C: PolicyGradient>(
    options: &C,
    rollout: &RolloutOptions,
    source: &ModelSource,
    prompts: &PromptSet,
    own: Vec<Box<dyn Reward>>,
) -> Result<(Rewards, Rewards)> {
    let reward = options.rollout().2;
    let open_model = |name: &str| open_model(name, reward, &source.tokenizer, options.common().device);
    let rewards = Rewards::new(reward, rollout, prompts.task.as_ref(), own, open_model)?;
    let gold_names = &options.guard().gold_funcs.0;
    let gold = Rewards::named(gold_names, vec![], (reward, rollout), prompts.task.as_ref(), open_model)?;
    for rewards in [&rewards, &gold] {
        rewards.check(&prompts.train)?;
        rewards.check(&prompts.eval)?;
    }
    Ok((rewards, gold))
}

/// Where completions come from. `unjudged`: no reward is named, so that a file must bring them.
pub(super) fn open_rollouts<C: PolicyGradient>(
    options: &C,
    rollout: &RolloutOptions,
    source: &ModelSource,
    prompts: &PromptSet,
    unjudged: bool,
) -> Result<Rollouts> {
    let config = &source.files.config;
    let mut stop_tokens = source.stop_tokens();
    let mut drawing = config.generation.drawing_fields();
    drawing.extend((!own_stop_strings(&config.generation).is_empty()).then_some("stop_strings"));
    if !drawing.is_empty() {
        let said =
            "the options say how completions are drawn, as in TRL; of generation_config.json the ends are used, not";
        tell!("note: {said} {}", drawing.join(", "));
    }
    let Some(path) = &rollout.completions_file else {
        return Ok(Rollouts::Drawn(Drawing::new(rollout, stop_tokens, options.common().training.seed)));
    };
    stop_tokens.extend(source.tokenizer.pad_id());
    let file = FixedCompletions::read(path, stop_tokens, config.vocab_size)?;
    file.check(&prompts.train, rollout.num_generations, unjudged)?;
    Ok(Rollouts::Fixed(file))
}

/// Questions made on the spot are no file whose hash is kept: their own is.
pub(super) fn check_same_prompts(job: &mut Job, prompts: &PromptSet) -> Result<()> {
    let fold = |hash: u64, token: &u32| (hash ^ u64::from(*token)).wrapping_mul(0x100_0000_01b3);
    let now = prompts.train.iter().flat_map(|p| &p.ids).fold(0xcbf2_9ce4_8422_2325, fold);
    match job.state.random_counters.insert("prompts".into(), now) {
        Some(then) if then != now => Err(Error::input(
            "resume_from_checkpoint: the prompts are not those that the run began with; give dataset_name as it was, or \
             start anew in another output_dir",
        )),
        _ => Ok(()),
    }
}

/// What a run reads, by role.
pub(super) fn reads<C: PolicyGradient>(options: &C, is_task: bool) -> Vec<(&'static str, &Path)> {
    let (data, rollout, _) = options.rollout();
    let mut all = vec![("model", Path::new(&*options.common().model.model_name_or_path))];
    // What is made on the spot is no file.
    let made = |role: &str, path: &Path| (is_task && role == "data") || path.to_string_lossy().starts_with("task:");
    all.extend(data.reads().into_iter().filter(|(role, path)| !made(role, path)));
    all.extend(rollout.completions_file.as_deref().map(|p| ("completions", p)));
    all.extend(options.common().lora.adapter_name_or_path.as_deref().map(|p| ("adapter", p)));
    all
}
