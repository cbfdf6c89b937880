//! From WGSL to what drivers and system compilers take, with the settings that wgpu 30 has for kernels whose workgroup memory is not
//! zeroed.
use crate::{Kernel, Outcome, one_line};
use naga::back::{hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage};
use std::fs;
use std::path::Path;

/// A kernel's WGSL, parsed and validated.
pub fn parse(dir: &Path, kernel: &Kernel) -> Outcome<(Module, ModuleInfo)> {
    let path = dir.join(format!("{}.wgsl", kernel.name));
    let source = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let module = naga::front::wgsl::parse_str(&source).map_err(|e| e.emit_to_string(&source))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(&source))?;
    Ok((module, info))
}

fn policies(is_checked: bool) -> BoundsCheckPolicies {
    let policy = if is_checked { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
    BoundsCheckPolicies {
        index: policy,
        buffer: policy,
        image_load: policy,
        binding_array: BoundsCheckPolicy::Unchecked,
    }
}

/// SPIR-V for a device of this version of Vulkan.
pub fn spirv(kernel: &Kernel, module: &Module, info: &ModuleInfo, version: (u8, u8)) -> Outcome<Vec<u32>> {
    let options = spv::Options {
        lang_version: version,
        flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
        bounds_check_policies: policies(kernel.is_checked),
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: kernel.is_checked,
        emit_int_div_checks: kernel.is_checked,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let entry = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
    spv::write_vec(module, info, &options, Some(&entry)).map_err(|e| e.to_string())
}

fn metal(kernel: &Kernel, module: &Module, info: &ModuleInfo) -> Outcome<String> {
    let options = msl::Options {
        lang_version: (3, 0),
        bounds_check_policies: policies(kernel.is_checked),
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: kernel.is_checked,
        emit_int_div_checks: kernel.is_checked,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let entry = msl::PipelineOptions { entry_point: Some((ShaderStage::Compute, "main".into())), ..Default::default() };
    let (text, _) = msl::write_string(module, info, &options, &entry).map_err(|e| e.to_string())?;
    Ok(text)
}

fn dx12(kernel: &Kernel, module: &Module, info: &ModuleInfo, model: hlsl::ShaderModel) -> Outcome<String> {
    let target = |register| hlsl::BindTarget { space: 255, register, ..Default::default() };
    let options = hlsl::Options {
        shader_model: model,
        fake_missing_bindings: true,
        special_constants_binding: Some(target(0)),
        immediates_target: Some(target(1)),
        zero_initialize_workgroup_memory: false,
        restrict_indexing: kernel.is_checked,
        force_loop_bounding: kernel.is_checked,
        ..Default::default()
    };
    let entry = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, "main".into())) };
    let mut text = String::new();
    hlsl::Writer::new(&mut text, &options, &entry).write(module, info, None).map_err(|e| e.to_string())?;
    Ok(text)
}

fn one(dir: &Path, kernel: &Kernel) -> Outcome<()> {
    let (module, info) = parse(dir, kernel)?;
    let write = |ending: &str, bytes: &[u8]| {
        let path = dir.join(format!("{}.{ending}", kernel.name));
        fs::write(&path, bytes).map_err(|e| format!("{}: {e}", path.display()))
    };
    let words = spirv(kernel, &module, &info, (1, 6)).map_err(|e| format!("SPIR-V: {e}"))?;
    write("spv", &words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>())?;
    // Metal's matrices are 8 × 8; HLSL has none, and wgpu asks DX12 for none.
    if kernel.units[0] != 16 {
        write("metal", metal(kernel, &module, &info).map_err(|e| format!("MSL: {e}"))?.as_bytes())?;
    }
    if kernel.units[0] == 0 {
        for (model, ending) in [(hlsl::ShaderModel::V5_1, "51.hlsl"), (hlsl::ShaderModel::V6_2, "62.hlsl")] {
            let text = dx12(kernel, &module, &info, model).map_err(|e| format!("HLSL {ending}: {e}"))?;
            write(ending, text.as_bytes())?;
        }
    }
    Ok(())
}

/// Writes all of them.
pub fn all(dir: &Path, kernels: &[Kernel]) -> Outcome<()> {
    for kernel in kernels {
        match one(dir, kernel) {
            Ok(()) => println!("KERNEL\t{}", kernel.name),
            Err(error) => println!("FAILED\t{}\t{}", kernel.name, one_line(&error)),
        }
    }
    Ok(())
}
