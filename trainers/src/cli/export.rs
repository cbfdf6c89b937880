//! `lapidary export`: a model leaves, as a GGUF file for llama.cpp and Ollama or as a Hugging Face directory.
use super::modelfile::Modelfile;
use crate::device;
use crate::error::{Error, Result};
use crate::job::need::{self, Use};
use crate::job::setup::{self, ModelSource};
use crate::options::{ExportOptions, OutType, WeightType};
use crate::run::check_model_place;
use crate::run::durable::write_file;
use crate::text::go_template::go_template;
use crate::text::tokenizer_as_gguf::{fill_up, vocabulary_of};
use engine::buffer::Host;
use engine::config::Slot;
use engine::dtype::DType;
use engine::files::gguf_export::GgufExport;
use engine::files::vocabulary::Vocabulary;
use engine::model::decoder::Decoder;
use std::path::{Path, PathBuf};

/// Everything is read and checked first. Without an adapter one tensor at a time is in memory; with one it is folded in, in
/// float32 on the CPU.
pub fn run(options: &ExportOptions) -> Result<()> {
    let sources = setup::model_and_adapter(
        options.source.model_name_or_path.as_deref(),
        options.source.adapter_name_or_path.as_deref(),
    )?;
    let source = sources.open()?;
    match (&options.target.output_file, &options.target.output_dir) {
        (Some(file), _) => to_gguf(options, &sources, &source, file),
        (None, Some(dir)) => to_directory(options, &sources, &source, dir),
        (None, None) => Err(Error::input("give --output_file with a name in .gguf, or --output_dir with a directory")),
    }
}

/// The model in float32, the adapter folded in; None without an adapter.
fn folded(sources: &setup::ModelAndAdapter, source: &ModelSource, used: Use) -> Result<Option<Decoder>> {
    let Some(path) = &sources.adapter else { return Ok(None) };
    let adapter = setup::load_adapter(path, source.files.config.head)?;
    adapter.check_fits(&source.files.config, path)?;
    let cpu = device::open(device::DeviceChoice::Cpu, None)?;
    need::check_use(&source.files, Some(DType::F32), Some(&adapter), &cpu, used)?;
    let mut model = Decoder::load(&source.files, &cpu, DType::F32)?;
    model.load_adapter(&adapter)?;
    model.merge_adapter()?;
    Ok(Some(model))
}

fn to_directory(
    options: &ExportOptions,
    sources: &setup::ModelAndAdapter,
    source: &ModelSource,
    dir: &Path,
) -> Result<()> {
    let dtype = match options.target.outtype {
        None => setup::saved_dtype(WeightType::Auto, &source.files),
        Some(OutType::Q8_0) => {
            return Err(Error::input("outtype: a Hugging Face directory cannot hold q8_0; give f32, f16 or bf16"));
        }
        Some(outtype) => outtype.value(),
    };
    let inputs: Vec<&Path> = std::iter::once(Path::new(&sources.model)).chain(sources.adapter.as_deref()).collect();
    check_model_place(dir, options.target.overwrite_output_dir, &inputs)?;
    let model = match folded(sources, source, Use::Save(dtype))? {
        Some(model) => model,
        None => {
            let cpu = device::open(device::DeviceChoice::Cpu, None)?;
            need::check_use(&source.files, Some(DType::F32), None, &cpu, Use::Save(dtype))?;
            Decoder::load(&source.files, &cpu, DType::F32)?
        }
    };
    model.save(dir, dtype)?;
    source.tokenizer.save(dir)?;
    tell!("written: {} ({})", dir.display(), dtype.name());
    Ok(())
}

fn to_gguf(options: &ExportOptions, sources: &setup::ModelAndAdapter, source: &ModelSource, file: &Path) -> Result<()> {
    let target = &options.target;
    let outtype = target.outtype.unwrap_or(OutType::F16);
    let modelfile = target.modelfile.then(|| file.with_extension("Modelfile"));
    check_places(options, sources, file, modelfile.as_deref())?;
    let stops = source.stop_tokens();
    let (vocabulary, notes) = vocabulary(sources, source, &stops)?;
    notes.iter().for_each(|note| tell!("note: {note}"));
    let template = match modelfile.is_some() && source.tokenizer.has_chat_template() {
        true => template(source, &vocabulary)?,
        false => None,
    };
    let model = folded(sources, source, Use::Write(outtype.value()))?;
    if model.is_none() {
        need::check_writing(&source.files, &device::open(device::DeviceChoice::Cpu, None)?, outtype.value())?;
    }
    let config = model.as_ref().map_or(&source.files.config, |model| &model.config);
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let export = GgufExport::new(config, Some(&vocabulary), &name, outtype.value())?;
    export.notes().iter().for_each(|note| tell!("note: {note}"));
    export.save(file, |slot| match &model {
        Some(model) => of_model(model, slot),
        None => match source.files.weights.load(&slot.path, DType::F32)? {
            Host::F32(values) => Ok(values),
            other => Err(engine::Error::shape("export", format!("{} is {}", slot.path, other.dtype().name()))),
        },
    })?;
    let bytes = std::fs::metadata(file).map_or(0, |m| m.len());
    tell!("written: {} ({}, {:.1} MB)", file.display(), outtype.name(), bytes as f64 / 1e6);
    if let Some(path) = &modelfile {
        let stops = stops.iter().filter_map(|id| source.tokenizer.token(*id)).collect();
        let file_name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let text = Modelfile { file_name: &file_name, template, stops, generation: &config.generation }.text();
        write_file(path, text.as_bytes())?;
        tell!("written: {}\nnow:\n  ollama create {name} -f {}\n  ollama run {name}", path.display(), path.display());
    }
    Ok(())
}

fn of_model(model: &Decoder, slot: &Slot) -> engine::Result<Vec<f32>> {
    match model.parameters().into_iter().find(|parameter| parameter.path() == slot.path) {
        Some(parameter) => parameter.to_vec(),
        None => Err(engine::Error::shape("export", format!("the model has no {}", slot.path))),
    }
}

/// The tokenizer's metadata: a GGUF file's own, as they stand, or made of a Hugging Face tokenizer.
fn vocabulary(
    sources: &setup::ModelAndAdapter,
    source: &ModelSource,
    stops: &[u32],
) -> Result<(Vocabulary, Vec<String>)> {
    let n_rows = source.files.config.vocab_size;
    match source.files.vocabulary.as_ref().filter(|_| !sources.brings_tokenizer()) {
        Some(own) => {
            let mut vocabulary = own.clone();
            fill_up(&mut vocabulary, n_rows);
            Ok((vocabulary, vec![]))
        }
        None => vocabulary_of(&source.tokenizer, n_rows, stops),
    }
}

/// The Go template of the Modelfile, or a note that there is none.
fn template(source: &ModelSource, vocabulary: &Vocabulary) -> Result<Option<String>> {
    let bos = vocabulary.bos_id.filter(|_| vocabulary.add_bos).and_then(|id| source.tokenizer.token(id));
    let template = go_template(&source.tokenizer, bos.as_deref())?;
    if template.is_none() {
        tell!(
            "note: the chat template does more than to put texts around messages, so the Modelfile has no TEMPLATE; Ollama takes \
             one of its own where it knows the model's, else write one"
        );
    }
    Ok(template)
}

/// Whether the outputs may be written where they are to go.
fn check_places(
    options: &ExportOptions,
    sources: &setup::ModelAndAdapter,
    file: &Path,
    modelfile: Option<&Path>,
) -> Result<()> {
    let target = &options.target;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        return Err(Error::file(parent, "is no directory; make it first, or give another output_file"));
    }
    for path in std::iter::once(file).chain(modelfile) {
        if path.exists() && !target.overwrite_output_file {
            let otherwise = if path == file { "" } else { " (--modelfile false leaves it)" };
            return Err(Error::file(
                path,
                format!("is there already; --overwrite_output_file writes over it{otherwise}"),
            ));
        }
        if path.is_dir() {
            return Err(Error::file(path, "is a directory; give another output_file"));
        }
    }
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    if real(file).is_some_and(|file| Some(file) == real(&PathBuf::from(&sources.model))) {
        return Err(Error::file(file, "is the model that is read; give another output_file"));
    }
    Ok(())
}
