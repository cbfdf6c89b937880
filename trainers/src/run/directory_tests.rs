//! What may be written where, and what is left alone.
use super::super::checkpoint::CheckpointWriter;
use super::super::optimizer_file::OptimizerState;
use super::super::state::TrainerState;
use super::*;
use serde_json::json;

fn options() -> Map<String, Value> {
    let value = json!({"learning_rate": 2e-5, "output_dir": "run", "max_length": null, "overwrite_output_dir": true});
    value.as_object().cloned().unwrap_or_default()
}

fn begin(plan: RunPlan) -> RunDirectory {
    let hash = FileHash { bytes: 3, sha256: "abc".into() };
    let inputs = BTreeMap::from([("data".to_string(), vec![("d.jsonl".to_string(), hash)])]);
    plan.begin(&about(&options(), &inputs)).expect("begun")
}

fn about<'a>(options: &'a Map<String, Value>, inputs: &'a BTreeMap<String, Vec<(String, FileHash)>>) -> Begin<'a> {
    Begin { command: "sft", options, device: "cpu", seed: 42, inputs }
}

fn plan(path: &Path, resume: ResumeFrom, overwrite: bool) -> Result<RunPlan> {
    RunDirectory::plan(path, &resume, overwrite, &[])
}
fn fresh(path: &Path) -> Result<RunPlan> {
    plan(path, ResumeFrom::Nothing, false)
}
fn told(plan: Result<RunPlan>) -> String {
    plan.expect_err("is refused").to_string()
}
fn save(run: &Path, step: u64) {
    let state = TrainerState { global_step: step, ..TrainerState::new() };
    let writer = CheckpointWriter::begin(run, step).expect("begun");
    writer.commit(&state, &OptimizerState::default()).expect("committed");
}
fn manifest(run: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(run.join(MANIFEST)).expect("read")).expect("JSON")
}

#[test]
fn a_plan_touches_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("a/b/run");
    let plan = fresh(&path).expect("possible");
    assert!(!path.exists());
    let run = begin(plan);
    assert_eq!(
        fs::read_to_string(run.path().join(CONFIG)).expect("read"),
        "learning_rate: 0.00002\noutput_dir: run\nmax_length: null\n"
    );
    let m = manifest(&path);
    assert_eq!(
        (&m["command"], &m["device"], &m["seed"], &m["finished"]),
        (&json!("sft"), &json!("cpu"), &json!(42), &Value::Null)
    );
    assert_eq!(m["inputs"]["data"]["d.jsonl"]["sha256"], "abc");
    assert_eq!(m["started"].as_str().map(str::len), Some("2026-11-05T13:45:07Z".len()));
}

#[test]
fn files_in_the_way() {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("written");
    assert!(told(fresh(&file)).contains("is a file"));
    assert!(told(fresh(&file.join("run"))).contains("is a file"));
    assert!(told(fresh(Path::new(""))).contains("is empty"));
}

#[test]
fn earlier_runs_are_not_written_over() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path();
    fs::write(path.join("notes.txt"), "mine").expect("written");
    drop(begin(fresh(path).expect("notes do not matter")));
    // A run that stopped before its first checkpoint has nothing to lose.
    let mut run = begin(fresh(path).expect("nothing to lose"));
    save(path, 10);
    assert!(told(fresh(path)).contains("--resume_from_checkpoint last to go on with it"));
    fs::write(path.join("model.safetensors"), "weights").expect("written");
    run.finish(Outcome { seconds: 2.0, tokens_per_second: 10.0, peak_bytes: None, predicted_bytes: None })
        .expect("finished");
    assert!(manifest(path)["finished"].is_string());
    assert!(told(fresh(path)).contains("model.safetensors"));
    assert_eq!(manifest(path)["outputs"]["model.safetensors"]["bytes"], 7);
    drop(run);

    let input = path.join("model.safetensors");
    let refused = RunDirectory::plan(path, &ResumeFrom::Nothing, true, &[&input]);
    assert!(told(refused).contains("the run reads"));
    let run = begin(plan(path, ResumeFrom::Nothing, true).expect("overwrites"));
    assert!(!run.path().join("model.safetensors").exists() && !run.path().join("checkpoint-10").exists());
    assert!(run.path().join("notes.txt").exists());
}

#[test]
fn a_model_that_no_run_wrote_is_never_cleared() {
    let dir = tempfile::tempdir().expect("directory");
    fs::write(dir.path().join("model-00001-of-00002.safetensors"), "weights").expect("written");
    assert!(told(fresh(dir.path())).contains("holds an earlier run"));
    assert!(told(plan(dir.path(), ResumeFrom::Nothing, true)).contains("no manifest.json"));
}

#[test]
fn resuming() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path();
    assert!(told(plan(path, ResumeFrom::Last, false)).contains("no complete checkpoint"));
    let run = begin(fresh(path).expect("possible"));
    let mut log = run.metrics().expect("opened");
    for step in [10, 20, 30] {
        log.write(step, 0.0, &[("loss", 1.5)]).expect("written");
    }
    save(path, 10);
    save(path, 20);
    fs::create_dir(path.join(".checkpoint-30.partial")).expect("made");

    drop(run);
    let plan_last = plan(path, ResumeFrom::Last, false).expect("possible");
    assert_eq!(plan_last.resumes_from().map(|c| c.step), Some(20));
    let run = begin(plan_last);
    assert!(!path.join(".checkpoint-30.partial").exists());
    run.metrics().expect("opened");
    assert_eq!(fs::read_to_string(path.join(MetricsLog::FILE_NAME)).expect("read").lines().count(), 2);
    run.rotate(Some(1), None).expect("rotated");
    assert!(!path.join("checkpoint-10").exists() && path.join("checkpoint-20").exists());
    assert_eq!(manifest(path)["resumed"][0]["from_step"], 20);

    let elsewhere = tempfile::tempdir().expect("directory");
    let from = ResumeFrom::Path(path.join("checkpoint-20"));
    assert_eq!(plan(elsewhere.path(), from, false).expect("possible").resumes_from().map(|c| c.step), Some(20));
    save(elsewhere.path(), 1);
    let from = ResumeFrom::Path(path.join("checkpoint-20"));
    assert!(told(plan(elsewhere.path(), from, false)).contains("resume a checkpoint of this one"));
    fs::remove_file(path.join("checkpoint-20/optimizer.safetensors")).expect("removed");
    let from = ResumeFrom::Path(path.join("checkpoint-20"));
    assert!(told(plan(path, from, false)).contains("optimizer.safetensors is missing"));
}

/// The same command again goes on with a run that was interrupted, past a checkpoint that is damaged.
#[test]
fn going_on_by_itself() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path();
    let auto = |overwrite| plan(path, ResumeFrom::Auto, overwrite);
    assert_eq!(auto(false).expect("nothing is there").resumes_from(), None);
    let mut run = begin(auto(false).expect("nothing is there"));
    assert_eq!(auto(false).expect("no checkpoint yet").resumes_from(), None);
    save(path, 10);
    save(path, 20);
    let state = path.join("checkpoint-20").join(TrainerState::FILE_NAME);
    let text = fs::read_to_string(&state).expect("read");
    fs::write(&state, text.replace("20", "30")).expect("written");
    let found = auto(false).expect("one is good");
    assert_eq!(found.resumes_from().map(|c| c.step), Some(10));
    assert!(found.notes()[0].contains("trainer_state.json: damaged"), "{:?}", found.notes());
    // Another run at the same time is refused when it begins.
    let about_now = found.begin(&about(&options(), &BTreeMap::new())).expect_err("held").to_string();
    assert!(about_now.contains("another run is writing"), "{about_now}");
    assert_eq!(auto(true).expect("begun anew").resumes_from(), None);
    run.finish(Outcome { seconds: 2.0, tokens_per_second: 10.0, peak_bytes: None, predicted_bytes: None })
        .expect("finished");
    assert!(told(auto(false)).contains("holds an earlier run"));
}

#[test]
fn dates() {
    // From `date -u -d @N`.
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_709_251_199, "2024-02-29T23:59:59Z"),
        (1_709_251_200, "2024-03-01T00:00:00Z"),
        (1_767_225_599, "2025-12-31T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(utc(seconds), text);
    }
}
