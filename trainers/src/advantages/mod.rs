//! From rewards to advantages: how much better than expected each completion, or each token, was. Pure functions.
//!
//! A reward that is NaN belongs to a completion that no reward function could judge: it takes no part in any mean, and
//! its advantage is 0. Groups are `group_size` neighbours: the completions of one prompt.
//!
//! Modules in reading order.
mod float32;
pub mod group;
pub mod baseline;
pub mod tokens;

pub use baseline::{MovingAverage, batch_baseline};
pub use group::{
    Advantages, leave_one_out, normalise_then_sum, normalised, scaled_by_batch, scaled_by_group, unscaled, weighted_sum,
};
pub use tokens::{gae, reward_to_go, whiten};
