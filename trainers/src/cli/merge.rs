//! `lapidary merge`: an adapter folded into its base model, saved as one model.
use crate::device;
use crate::error::{Error, Result};
use crate::job::need::{self, Use};
use crate::job::setup;
use crate::options::MergeOptions;
use crate::run::check_model_place;
use engine::dtype::DType;
use engine::model::decoder::Decoder;

/// Everything is read and compared first; the merged model is computed in float32 on the CPU.
pub fn run(options: &MergeOptions) -> Result<()> {
    let (fold, model) = (&options.fold, &options.model);
    let source = setup::open_with(&model.model_name_or_path, fold.adapter_name_or_path.as_deref())?;
    let Some(path) = &fold.adapter_name_or_path else {
        return Err(Error::input("adapter_name_or_path: is needed: the adapter to fold into the model"));
    };
    let adapter = setup::load_adapter(path, source.files.config.head)?;
    adapter.check_fits(&source.files.config, path)?;
    let inputs = [std::path::Path::new(&*model.model_name_or_path), path];
    check_model_place(&fold.output_dir, fold.overwrite_output_dir, &inputs)?;
    let dtype = setup::saved_dtype(model.dtype, &source.files);
    let cpu = device::open(device::DeviceChoice::Cpu, None)?;
    need::check_use(&source.files, Some(DType::F32), Some(&adapter), &cpu, Use::Save(dtype))?;
    let mut merged = Decoder::load(&source.files, &cpu, DType::F32)?;
    merged.load_adapter(&adapter)?;
    merged.merge_adapter()?;
    merged.save(&fold.output_dir, dtype)?;
    source.tokenizer.save(&fold.output_dir)?;
    tell!("merged into {} ({})", fold.output_dir.display(), dtype.name());
    Ok(())
}
