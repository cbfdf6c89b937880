//! What the policy-gradient trainers share: prompts, made-up tasks, rewards, completions, and what is learnt from them.
//!
//! Modules in reading order; each uses only those before it.
pub mod tasks;
pub mod prompts;
pub mod rewards;
pub mod rollout;
pub mod experience;
pub mod samples;
pub mod measure;
pub mod penalty;
pub mod guard;
pub mod critic;
pub mod session;

pub use experience::{Experience, Sample};
pub use prompts::{Prompt, PromptSet, read_prompts};
pub use rewards::{Judged, Reward, Rewards};
pub use rollout::{Completion, Rollouts};
pub use session::{Collected, Session};
