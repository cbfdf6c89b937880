//! What a run must remember to go on to the same bits, apart from weights and optimiser.
use super::best::BestSoFar;
use super::durable::io_error;
use crate::data::blocks::StreamPosition;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Where in the data a run is: what it would read next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataPosition {
    /// Passes over the data that are complete.
    pub epoch: u64,
    /// Batches of this pass that have been read.
    pub batch: u64,
    /// Of streamed rows: where the next one stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamPosition>,
}

/// A mean that is still being gathered: what has been measured since the last log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accumulator {
    /// Σ weight · value
    #[serde(with = "exact")]
    pub sum: f64,
    /// Σ weight
    #[serde(with = "exact")]
    pub weight: f64,
}

impl Accumulator {
    /// Adds a value that counts `weight` times.
    pub fn add(&mut self, value: f64, weight: f64) {
        self.sum += value * weight;
        self.weight += weight;
    }
    /// None if nothing was gathered.
    pub fn mean(&self) -> Option<f64> {
        (self.weight != 0.0).then(|| self.sum / self.weight)
    }
}

/// `trainer_state.json` of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Version of this file's layout.
    pub format: u32,
    /// Version of the program that wrote it.
    pub lapidary: String,
    /// Optimiser steps done.
    pub global_step: u64,
    /// Optimiser steps of the whole run.
    pub max_steps: u64,
    /// Passes over the data, the one under way in part.
    #[serde(with = "exact")]
    pub epoch: f64,
    /// Where the data go on.
    pub position: DataPosition,
    /// Tokens read so far.
    pub num_tokens: u64,
    /// Of all random numbers.
    pub seed: u64,
    /// How far each counter of random numbers has come, by name.
    pub random_counters: BTreeMap<String, u64>,
    /// Metrics that are still being gathered, by name.
    pub accumulators: BTreeMap<String, Accumulator>,
    /// The best evaluation so far, where somebody asks for it.
    #[serde(default)]
    pub best: BestSoFar,
    /// The options that decide what the run computes ([`crate::options::fingerprint`]).
    pub options: Map<String, Value>,
    /// SHA-256 of what the run reads, by role: model, data …
    pub inputs: BTreeMap<String, String>,
}

/// Options that say how long the run is: a run may go on for longer than it was begun for.
const LENGTH: [&str; 2] = ["max_steps", "num_train_epochs"];

impl TrainerState {
    /// In a checkpoint's directory.
    pub const FILE_NAME: &str = "trainer_state.json";
    /// Raised when an older program could not read the file.
    pub const FORMAT: u32 = 1;

    /// A state of this program's version, everything else empty.
    pub fn new() -> Self {
        TrainerState { format: Self::FORMAT, lapidary: env!("CARGO_PKG_VERSION").into(), ..TrainerState::default() }
    }

    /// As the file holds it.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| Error::Internal(format!("trainer state: {e}")))
    }

    /// The state of a checkpoint; an error names what is wrong with its file.
    pub fn read(checkpoint: &Path) -> Result<Self> {
        let path = checkpoint.join(Self::FILE_NAME);
        let text = std::fs::read_to_string(&path).map_err(|e| io_error(&path, "read", e))?;
        let state: TrainerState =
            serde_json::from_str(&text).map_err(|e| Error::Input(format!("{}: damaged: {e}", path.display())))?;
        if state.format != Self::FORMAT {
            let (theirs, ours) = (state.format, Self::FORMAT);
            return Err(Error::Input(format!("{}: layout {theirs}, this program reads {ours}", path.display())));
        }
        Ok(state)
    }

    /// An error that names the first thing that differs between the run that wrote this state and the one that is to
    /// go on with it: an option, or what a file holds.
    pub fn check_same_run(&self, options: &Map<String, Value>, inputs: &BTreeMap<String, String>) -> Result<()> {
        let names = self.options.keys().chain(options.keys().filter(|name| !self.options.contains_key(*name)));
        for name in names.filter(|name| !LENGTH.contains(&name.as_str())) {
            let (then, now) = (self.options.get(name), options.get(name));
            if then != now {
                let show = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
                let (then, now) = (show(then), show(now));
                return Err(Error::Input(format!(
                    "resume_from_checkpoint: {name} was {then} and is {now} now, which would be another run; \
                     give it as it was, or start anew in another output_dir"
                )));
            }
        }
        for (role, hash) in &self.inputs {
            if inputs.get(role).is_some_and(|now| now != hash) {
                return Err(Error::Input(format!(
                    "resume_from_checkpoint: the {role} is not what it was when the run began; \
                     put it back as it was, or start anew in another output_dir"
                )));
            }
        }
        Ok(())
    }
}

/// Floating-point numbers in JSON without loss: those that JSON has no number for are words.
mod exact {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumberOrWord {
        Number(f64),
        Word(String),
    }

    pub fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if x.is_finite() { serializer.serialize_f64(*x) } else { serializer.serialize_str(&x.to_string()) }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match NumberOrWord::deserialize(deserializer)? {
            NumberOrWord::Number(x) => Ok(x),
            NumberOrWord::Word(word) => word.parse().map_err(|_| D::Error::custom(format!("{word} is no number"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> TrainerState {
        let mut state = TrainerState::new();
        state.global_step = 40;
        state.epoch = 1.0 / 3.0;
        state.seed = u64::MAX;
        state.position =
            DataPosition { epoch: 1, batch: 7, stream: Some(StreamPosition { rows: 9, ..Default::default() }) };
        state.random_counters.insert("dropout".into(), 99);
        // Numbers whose decimal forms are easily misread by a bit.
        for (i, x) in [0.1 + 0.2, 5e-324, 1.7976931348623157e308, 9007199254740993.0, f64::NAN, f64::NEG_INFINITY]
            .into_iter()
            .enumerate()
        {
            state.accumulators.insert(format!("metric {i}"), Accumulator { sum: x, weight: 0.1 * i as f64 });
        }
        state.options.insert("learning_rate".into(), Value::from(2e-5));
        state.options.insert("seed".into(), Value::from(42));
        state.inputs.insert("data".into(), "abc".into());
        state
    }

    #[test]
    fn every_bit_comes_back() {
        let dir = tempfile::tempdir().expect("directory");
        let state = example();
        std::fs::write(dir.path().join(TrainerState::FILE_NAME), state.to_json().expect("written")).expect("written");
        let again = TrainerState::read(dir.path()).expect("read");
        let bits = |s: &TrainerState| {
            s.accumulators.values().map(|a| (a.sum.to_bits(), a.weight.to_bits())).collect::<Vec<_>>()
        };
        assert_eq!(bits(&again), bits(&state));
        assert_eq!(again.epoch.to_bits(), state.epoch.to_bits());
        assert_eq!((again.seed, again.position, again.global_step), (state.seed, state.position, state.global_step));
        assert_eq!((again.options, again.inputs), (state.options, state.inputs));
    }

    #[test]
    fn options_that_differ_are_named() {
        let state = example();
        state.check_same_run(&state.options, &state.inputs).expect("the same run");
        let mut options = state.options.clone();
        options.insert("learning_rate".into(), Value::from(1e-4));
        let told = state.check_same_run(&options, &state.inputs).expect_err("differs").to_string();
        assert!(
            told.contains("learning_rate was 0.00002 and is 0.0001 now")
                || told.contains("learning_rate was 2e-5 and is 0.0001 now"),
            "{told}"
        );
        let inputs = BTreeMap::from([("data".to_string(), "xyz".to_string())]);
        let told = state.check_same_run(&state.options, &inputs).expect_err("differs").to_string();
        assert!(told.contains("the data is not what it was"), "{told}");
        let mut options = state.options.clone();
        options.insert("new_option".into(), Value::from(1));
        assert!(state.check_same_run(&options, &state.inputs).is_err());
    }

    #[test]
    fn damaged_state() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join(TrainerState::FILE_NAME);
        for (text, part) in [("{\"format\": 1", "damaged"), ("{}", "damaged"), ("", "damaged")] {
            std::fs::write(&path, text).expect("written");
            let told = TrainerState::read(dir.path()).expect_err("damaged").to_string();
            assert!(told.contains(part), "{told}");
        }
        let newer = TrainerState { format: 2, ..example() };
        std::fs::write(&path, newer.to_json().expect("written")).expect("written");
        assert!(TrainerState::read(dir.path()).expect_err("newer").to_string().contains("layout 2"));
    }

    #[test]
    fn means() {
        let mut mean = Accumulator::default();
        assert_eq!(mean.mean(), None);
        mean.add(1.0, 3.0);
        mean.add(5.0, 1.0);
        assert_eq!(mean.mean(), Some(2.0));
    }
}
