//! The commands that look at finished runs as evidence: `verify`, `diff`, `reproduce`.
use super::given::Given;
use super::rl_values::Paths;
use super::spec::{Command, option_group, option_set};
use super::value::{ANY, at_least};
use crate::error::Result;
use std::path::PathBuf;

option_group! {
    /// Which directory.
    pub struct VerifiedOptions "Verify" {
        /// The directory of a run.
        run_dir: PathBuf = required, Lapidary;
    }
}

option_set! {
    /// Everything `lapidary verify` can be told.
    pub struct VerifyOptions {
        pub verified: VerifiedOptions,
    }
}

impl Command for VerifyOptions {
    const NAME: &'static str = "verify";
    const ABOUT: &'static str =
        "Compare the files of a run and of its checkpoints with the hashes that were written with them";

    fn check(&mut self, _: &Given) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

option_group! {
    /// Which runs are compared.
    pub struct DifferOptions "Diff" {
        /// The directories of two runs.
        run_dirs: Paths = required, Lapidary;
        /// Numbers count as equal up to tolerance · max(1, |a|, |b|); 0 compares bits.
        tolerance: f64 = "0", Lapidary, at_least(0.0);
    }
}

option_set! {
    /// Everything `lapidary diff` can be told.
    pub struct DiffOptions {
        pub differ: DifferOptions,
    }
}

impl Command for DiffOptions {
    const NAME: &'static str = "diff";
    const ABOUT: &'static str =
        "Say what differs between two runs: options, data, versions, the first step whose numbers part";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        match self.differ.run_dirs.0.len() {
            2 => Ok(Vec::new()),
            n => given.complain("run_dirs", format!("are two directories, not {n}")),
        }
    }
}

option_group! {
    /// Which run is done again, and how far.
    pub struct ReproducedOptions "Reproduce" {
        /// The directory of a run.
        run_dir: PathBuf = required, Lapidary;
        /// Stop after this optimiser step; none for the last that the run has logged.
        until: Option<u64> = none, Lapidary, at_least(1.0);
        /// Where the second run is kept; none for nowhere.
        output_dir: Option<PathBuf> = none, Lapidary;
        /// Numbers count as equal up to tolerance · max(1, |a|, |b|); none for 0 (the same bits) on the same kind of device
        /// and 0.001 on another.
        tolerance: Option<f64> = none, Lapidary, at_least(0.0);
        /// Where it is computed: auto, cpu, gpu, gpu:software, or gpu:NAME; none for where the run was.
        device: Option<String> = none, Lapidary, ANY;
    }
}

option_set! {
    /// Everything `lapidary reproduce` can be told.
    pub struct ReproduceOptions {
        pub reproduced: ReproducedOptions,
    }
}

impl Command for ReproduceOptions {
    const NAME: &'static str = "reproduce";
    const ABOUT: &'static str = "Run a run again and compare every number that it logged, bit for bit";

    fn check(&mut self, _: &Given) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
