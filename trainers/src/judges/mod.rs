//! Models that judge or speak and do not learn: a reward model, a judge of answers, a model that answers many prompts at once.
pub mod reward_model;
pub mod constitutional;
pub mod speaker;
