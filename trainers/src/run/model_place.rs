//! Where `merge` and `export` put a model: looked at before anything is computed.
use super::checkpoint::Checkpoint;
use super::directory::{MANIFEST, check_is_possible, weight_files};
use crate::error::{Error, Result};
use std::path::Path;

/// Whether a model may be written into `output_dir`. Errors say what stands there: a run, an adapter, one of `inputs` (the paths that
/// are read), or a model, which `overwrite` writes over.
pub fn check_model_place(output_dir: &Path, overwrite: bool, inputs: &[&Path]) -> Result<()> {
    check_is_possible(output_dir)?;
    let shown = output_dir.display();
    let refused = |detail: String| Err(Error::Input(format!("output_dir: {shown} {detail}")));
    let real = |path: &Path| path.canonicalize().ok();
    if real(output_dir).is_some_and(|dir| inputs.iter().any(|input| real(input).as_ref() == Some(&dir))) {
        return refused("is read itself; give another directory".into());
    }
    for (file, what) in [(MANIFEST, "a run's directory"), ("adapter_config.json", "an adapter's directory")] {
        if output_dir.join(file).is_file() {
            return refused(format!("is {what} ({file}), into which no model is written; give another directory"));
        }
    }
    if let Some(checkpoint) = Checkpoint::list(output_dir)?.pop() {
        return refused(format!("holds a run's {}; give another directory", checkpoint.path.display()));
    }
    match weight_files(output_dir)?.first() {
        Some(file) if !overwrite => refused(format!(
            "holds a model ({}); give another directory, or --overwrite_output_dir to write over it",
            file.display()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_stands_there_is_told_and_resuming_is_no_advice() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (place, file) in [
            ("run", MANIFEST),
            ("adapter", "adapter_config.json"),
            ("model", "model.safetensors"),
            ("read", "config.json"),
        ] {
            fs::create_dir(at(place)).unwrap();
            fs::write(at(place).join(file), "{}").unwrap();
        }
        fs::write(at("run").join("model.safetensors"), "").unwrap();
        let told = |place: &str, overwrite: bool| {
            check_model_place(&at(place), overwrite, &[&at("read")]).map_err(|error| error.to_string())
        };
        for (place, overwrite, words) in [
            ("run", true, "a run's directory (manifest.json)"),
            ("adapter", true, "an adapter's directory"),
            ("read", true, "is read itself"),
            ("model", false, "--overwrite_output_dir to write over it"),
        ] {
            let text = told(place, overwrite).unwrap_err();
            assert!(text.contains(words) && !text.contains("resume"), "{text}");
        }
        // What this program wrote before has no manifest.
        assert_eq!(told("model", true), Ok(()));
        assert_eq!(told("new", false), Ok(()));
    }
}
