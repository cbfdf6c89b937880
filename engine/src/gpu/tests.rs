//! Kernels on Mesa's software Vulkan. Without it tests say that they are skipped, and fail where CI is set.
use super::*;
use crate::backend::{Backend, Layout, Product};
use crate::buffer::Host;

/// The software adapter, or a visible skip.
fn software(options: GpuOptions) -> Option<Arc<Gpu>> {
    match Gpu::open_with(AdapterSelect::Software, options) {
        Ok(gpu) => Some(gpu),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn checked() -> GpuOptions {
    GpuOptions { checked: true, ..Default::default() }
}

#[test]
fn every_shader_compiles() {
    let Some(gpu) = software(checked()) else { return };
    for &shader in shaders::ALL {
        gpu.compile(shader, &[]).unwrap_or_else(|e| panic!("{e}"));
    }
}
