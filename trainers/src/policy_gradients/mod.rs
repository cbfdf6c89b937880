//! Learning from reward: prompts, made-up tasks, rewards, completions, what is learnt from them, and a loop for each algorithm.
//!
//! Modules in reading order; each uses only those before it.
pub mod final_answer;
pub mod judged;
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
pub mod raft;
pub mod reinforce;
pub mod rloo;
pub mod grpo;
pub mod ppo;
pub mod online_dpo;

pub use experience::{Experience, Sample};
pub use judged::{FunctionReward, Judged, Prompt, Reward};
pub use prompts::{PromptSet, read_prompts};
pub use rewards::Rewards;
pub use rollout::{Completion, Rollouts};
pub use session::{Collected, Session};
