//! What the tests share: golden files, devices to run on, relative errors.
#![allow(dead_code)]
use engine::backend::Device;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A file or directory of tests/golden.
pub fn golden(path: &str) -> PathBuf {
    golden_root().join(path)
}

/// Every device that a test runs on, with the relative error allowed there: the CPU, and software Vulkan.
/// Without a software adapter the GPU half is skipped with a word on stderr; in CI that is a failure.
pub fn devices() -> Vec<(Device, f64)> {
    let cpu = engine::cpu::Cpu::new(Some(2)).expect("the CPU backend opens");
    let mut all: Vec<(Device, f64)> = vec![(cpu, 1e-4)];
    all.extend(software_gpu().map(|d| (d, 1e-3)));
    all
}

#[cfg(feature = "gpu")]
pub fn software_gpu() -> Option<Device> {
    match engine::gpu::Gpu::open(engine::gpu::AdapterSelect::Software) {
        Ok(gpu) => Some(gpu),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED on the GPU: {error}");
            None
        }
        Err(error) => panic!("CI needs a software Vulkan adapter: {error}"),
    }
}

#[cfg(not(feature = "gpu"))]
pub fn software_gpu() -> Option<Device> {
    None
}

/// ‖a − b‖ / ‖b‖.
pub fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "lengths");
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut b.iter().map(|b| f64::from(*b))).max(1e-30)
}

/// A safetensors file of expected values.
pub struct Expected(Vec<u8>);

impl Expected {
    pub fn read(path: &Path) -> Self {
        Expected(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }
    fn parse(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).expect("a safetensors file")
    }
    pub fn names(&self) -> Vec<String> {
        self.parse().names().iter().map(|s| s.to_string()).collect()
    }
    pub fn f32(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = self.parse();
        let t = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(t.dtype(), Dtype::F32, "{name}");
        (t.shape().to_vec(), t.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
    pub fn i32(&self, name: &str) -> (Vec<usize>, Vec<i32>) {
        let file = self.parse();
        let t = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        (t.shape().to_vec(), t.data().chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}

/// The directory of golden data: tests/golden, or the one LAPIDARY_GOLDEN names (data of another seed).
pub fn golden_root() -> PathBuf {
    std::env::var_os("LAPIDARY_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from)
}

/// Whether the software adapter opens; see [`software_gpu`].
pub fn software_gpu_is_there() -> bool {
    software_gpu().is_some()
}

/// Runs `lapidary sft` in this process and returns the lines of its metrics.jsonl.
pub fn sft(arguments: &[String], out: &Path) -> Vec<Value> {
    run("sft", arguments, out)
}

/// Runs a training command in this process and returns the lines of its metrics.jsonl.
pub fn run(command: &str, arguments: &[String], out: &Path) -> Vec<Value> {
    let all = ["lapidary", command].into_iter().map(String::from).chain(arguments.iter().cloned()).map(Into::into);
    let request = trainers::cli::read(all).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
    trainers::cli::carry_out(request).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics.jsonl");
    text.lines().map(|l| serde_json::from_str(l).expect("a line of metrics.jsonl")).collect()
}

/// A test of each trajectory on each device, by the file's own `compare(name, device)`; and one that all trajectories of
/// the golden directory whose names are `ours` are listed.
#[allow(unused_macros)]
macro_rules! trajectories {
    ($ours:expr; $($name:ident),* $(,)?) => {
        mod cpu {
            $( #[test] fn $name() { super::compare(stringify!($name), "cpu"); } )*
        }
        mod gpu {
            $( #[test] fn $name() {
                if crate::common::software_gpu_is_there() { super::compare(stringify!($name), "gpu:software"); }
            } )*
        }
        #[test]
        fn all_are_compared() {
            let (ours, listed): (fn(&str) -> bool, _) = ($ours, [$(stringify!($name)),*]);
            for entry in std::fs::read_dir(crate::common::golden("trajectories")).unwrap() {
                let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
                assert!(!ours(&name) || listed.contains(&name.as_str()), "{name} is not compared");
            }
        }
    };
}

/// Steps that another library took: its options and metrics.
pub struct Trajectory {
    pub value: Value,
    pub final_l2: Vec<(String, f64)>,
}

impl Trajectory {
    /// A trajectory of the golden directory; None, with a word on stderr, where data of another seed have no such one.
    pub fn named(name: &str) -> Option<Self> {
        let path = golden(&format!("trajectories/{name}.json"));
        if !path.exists() && std::env::var_os("LAPIDARY_GOLDEN").is_some() && golden("trajectories").is_dir() {
            eprintln!("SKIPPED: {name} is not among the data that LAPIDARY_GOLDEN names");
            return None;
        }
        Some(Self::read(&path))
    }

    /// Runs `command` with the trajectory's options on `device`; the lines of its metrics, and `check` sees its directory.
    pub fn run(&self, command: &str, device: &str, check: impl FnOnce(&Path)) -> Vec<Value> {
        let dir = tempfile::tempdir().expect("a directory");
        let out = dir.path().join("run");
        let mut arguments = self.arguments(&golden_root());
        arguments.extend(["--device".into(), device.into(), "--output_dir".into(), out.display().to_string()]);
        let metrics = run(command, &arguments, &out);
        check(&out);
        metrics
    }

    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let value: Value = serde_json::from_str(&text).expect("a trajectory");
        let norms = value.get("final_l2").and_then(Value::as_object);
        let final_l2 = norms.into_iter().flatten().map(|(n, v)| (n.clone(), v.as_f64().expect("a norm"))).collect();
        Trajectory { value, final_l2 }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.value.get(key).and_then(Value::as_str)
    }

    /// The options as flags; paths below `root`. The model is the trajectory's, if it names one.
    pub fn arguments(&self, root: &Path) -> Vec<String> {
        let mut flags: Vec<String> = ["--logging_steps", "1", "--save_strategy", "no"].map(String::from).to_vec();
        let mut flag = |name: &str, value: String| flags.extend([format!("--{name}"), value]);
        let below = |path: &str| root.join(path).display().to_string();
        if let Some(model) = self.text("model") {
            flag("model_name_or_path", below(model));
        }
        flag("dataset_name", below(self.text("dataset").expect("a data set")));
        if let Some(eval) = self.text("eval_dataset") {
            flag("eval_dataset", below(eval));
        }
        if let Some(adapter) = self.text("initial_adapter") {
            flag("adapter_name_or_path", below(adapter));
        }
        if let Some(completions) = self.text("completions") {
            flag("completions_file", below(completions));
        }
        for (name, value) in self.value["config"].as_object().expect("config") {
            let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), String::from);
            flag(
                name,
                value.as_array().map_or_else(|| text(value), |l| l.iter().map(text).collect::<Vec<_>>().join(",")),
            );
        }
        flags
    }

    /// The command that the trajectory is of.
    pub fn command(&self) -> &str {
        self.text("trainer").expect("a trainer")
    }

    /// Rewards, margins and log-probabilities: 1e-3 (5e-3 after three steps) of the larger of the value and `floor`,
    /// which float32 sums of some tens of log-probabilities reach in TRL itself.
    pub fn check_rewards(&self, metrics: &[Value], about: &str, names: &[&str], floor: f64) {
        let lines: Vec<&Value> = metrics.iter().filter(|line| line.get("loss").is_some()).collect();
        for name in names {
            for (step, (expected, line)) in self.series(name).iter().zip(&lines).enumerate() {
                let found = line[*name].as_f64().unwrap_or(f64::NAN);
                let tolerance = if step < 3 { 1e-3 } else { 5e-3 };
                assert!(
                    (found - expected).abs() <= tolerance * expected.abs().max(floor),
                    "{about}: step {}: {name} is {found}, {expected} in TRL",
                    step + 1
                );
            }
        }
    }

    /// What evaluations during training found, all within 5e-3 of the larger of the value and `floor`.
    pub fn check_evaluations(&self, metrics: &[Value], about: &str, floor: f64) {
        let Some(all) = self.value.get("evaluations").and_then(Value::as_object) else { return };
        let lines: Vec<&Value> = metrics.iter().filter(|line| line.get("eval_loss").is_some()).collect();
        for (name, expected) in all.iter().filter(|(name, _)| name.starts_with("eval_") && *name != "eval_num_tokens") {
            let expected: Vec<f64> = expected.as_array().expect("a list").iter().filter_map(Value::as_f64).collect();
            let found: Vec<f64> = lines.iter().map(|line| line[name].as_f64().unwrap_or(f64::NAN)).collect();
            let close = |(e, f): (&f64, &f64)| (f - e).abs() <= 5e-3 * e.abs().max(floor);
            let fits = found.len() == expected.len() && expected.iter().zip(&found).all(close);
            assert!(fits, "{about}: {name} is {found:?}, {expected:?} in TRL");
        }
    }

    fn series(&self, name: &str) -> Vec<f64> {
        self.value["steps"][name]
            .as_array()
            .map_or_else(Vec::new, |a| a.iter().map(|v| v.as_f64().expect("a number")).collect())
    }

    /// Loss and gradient norm within 1e-3 for three steps, 5e-3 after; the other metrics as close as they can be.
    pub fn check_steps(&self, metrics: &[Value], about: &str) {
        let lines: Vec<&Value> = metrics.iter().filter(|line| line.get("loss").is_some()).collect();
        assert_eq!(lines.len(), self.series("loss").len(), "{about}: logged steps");
        for (name, tolerance) in
            [("loss", None), ("grad_norm", None), ("entropy", Some(5e-3)), ("learning_rate", Some(1e-9))]
        {
            for (step, (expected, line)) in self.series(name).iter().zip(&lines).enumerate() {
                let found = line[name].as_f64().unwrap_or(f64::NAN);
                let tolerance = tolerance.unwrap_or(if step < 3 { 1e-3 } else { 5e-3 });
                let error = (found - expected).abs() / expected.abs().max(1e-12);
                assert!(
                    error < tolerance || found == *expected,
                    "{about}: step {}: {name} is {found}, {expected} in TRL",
                    step + 1
                );
            }
        }
        for (step, (expected, line)) in self.series("num_tokens").iter().zip(&lines).enumerate() {
            assert_eq!(line["num_tokens"].as_f64(), Some(*expected), "{about}: step {}: num_tokens", step + 1);
        }
        for (step, (expected, line)) in self.series("mean_token_accuracy").iter().zip(&lines).enumerate() {
            // A near tie may fall either way: one token of a step.
            let found = line["mean_token_accuracy"].as_f64().unwrap_or(f64::NAN);
            assert!((found - expected).abs() < 0.04, "{about}: step {}: accuracy {found}, {expected} in TRL", step + 1);
        }
    }
}

/// SmolLM2's file, in the directory that LAPIDARY_MODELS names; None, with a word on stderr, where it is not there.
pub fn smollm2() -> Option<PathBuf> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/models");
    let dir = std::env::var_os("LAPIDARY_MODELS").map_or(default, PathBuf::from);
    let path = dir.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    if path.exists() {
        return Some(path);
    }
    let advice = format!("{} is not there; `tests/fetch-smollm2.sh {}` fetches it", path.display(), dir.display());
    assert!(std::env::var_os("CI").is_none(), "CI needs the model: {advice}");
    eprintln!("SKIPPED: {advice}");
    None
}
