//! Every kernel that the engine can ask a driver to compile: the shaders, each with the constants that it is compiled with.
//!
//! The lists come from the functions that the calls use, so that what is compiled here is what runs; in tests of this crate a
//! dispatch of a variant that is not listed fails.
use super::adapter::Cooperative;
use super::rungs::{LAYOUTS, RUNGS, Rung};
use super::{attention, cast, elementwise, matmul, recorder, sample};
use crate::backend::Layout;
use crate::error::{Error, Result};
use shaders::Shader;
use std::collections::BTreeSet;

/// A shader with the constants that it is compiled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The shader.
    pub shader: Shader,
    /// Its constants that get another value than stands in the file.
    pub constants: Vec<(&'static str, u32)>,
}

/// What a variant takes of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Threads of a workgroup.
    pub threads: u32,
    /// Bytes that they share.
    pub workgroup_bytes: u32,
    /// Buffers that the kernel sees.
    pub buffers: u32,
    /// Bytes of its scalars.
    pub params_bytes: u32,
}

/// Threads of a subgroup on any device there is.
const SUBGROUPS: [u32; 6] = [4, 8, 16, 32, 64, 128];

/// All variants, in the order of the shaders' names.
pub fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    let mut one_constant = |shader: Shader, name: &'static str, codes: u32| {
        all.extend((0..codes).map(|code| Variant { shader, constants: vec![(name, code)] }));
    };
    one_constant(shaders::UNARY, "OP", elementwise::UNARY_OPS);
    one_constant(shaders::UNARY_BACKWARD, "OP", elementwise::UNARY_OPS);
    one_constant(shaders::BINARY, "OP", elementwise::BINARY_OPS);
    one_constant(shaders::SAMPLE, "MODE", sample::MODES);
    one_constant(shaders::GATHER_ROWS, "TYPE", cast::TYPES);
    for from in 0..cast::TYPES {
        let to = |to| Variant { shader: shaders::CAST, constants: vec![("TYPE", from), ("TO", to)] };
        all.extend((0..cast::FLOAT_TYPES).map(to));
    }
    all.extend(attention::variants().into_iter().map(|(shader, constants)| Variant { shader, constants }));
    products(&mut all);
    let varied: BTreeSet<&str> = all.iter().map(|v| v.shader.name).collect();
    let others = shaders::ALL.iter().filter(|shader| !varied.contains(shader.name));
    all.extend(others.map(|&shader| Variant { shader, constants: Vec::new() }));
    all.sort_by_key(Variant::name);
    all.dedup();
    all
}

/// Every rung with every layout and type of B that it reads.
fn products(all: &mut Vec<Variant>) {
    for (rung, layout) in RUNGS.into_iter().flat_map(|rung| LAYOUTS.map(|layout| (rung, layout))) {
        let types = match (rung, layout) {
            (Rung::Cooperative, Layout::TN) => 0..0,
            // f16 alone
            (Rung::Cooperative, _) => 1..2,
            (Rung::Direct, _) | (_, Layout::TN) => 0..1,
            _ => 0..matmul::TYPES,
        };
        let rows: &[usize] = if matches!(rung, Rung::FewRows | Rung::Direct) { &[1, 2, 4, 8] } else { &[64] };
        for (code, &m) in types.flat_map(|code| rows.iter().map(move |m| (code, m))) {
            let mut push = |units| {
                let (shader, constants) = matmul::variant(rung, layout, code, m, units);
                all.push(Variant { shader, constants });
            };
            if rung == Rung::Cooperative {
                let units =
                    [16, 8].into_iter().flat_map(|size| SUBGROUPS.map(|subgroup| Cooperative { size, subgroup }));
                units.for_each(push);
            } else {
                push(Cooperative::default());
            }
        }
    }
}

impl Variant {
    /// As a file may be named: "matmul_tiled-LAYOUT1-TYPE2".
    pub fn name(&self) -> String {
        let constants = self.constants.iter().map(|(name, value)| format!("-{name}{value}"));
        std::iter::once(self.shader.name.to_string()).chain(constants).collect()
    }

    /// The WGSL that is compiled where scalars are immediates. Errors: a constant that the shader does not have.
    pub fn source(&self) -> Result<String> {
        recorder::substitute(self.shader, &self.constants)
    }

    /// Whether it is compiled with bounds checks in every run.
    pub fn is_checked(&self) -> bool {
        recorder::CHECKED_ALWAYS.contains(&self.shader)
    }

    /// Whether it multiplies on matrix units.
    pub fn is_cooperative(&self) -> bool {
        self.shader == shaders::MATMUL_COOPERATIVE
    }

    /// What it takes of a device, read from its source. Errors: WGSL that does not parse.
    pub fn needs(&self) -> Result<Needs> {
        use wgpu::naga::{AddressSpace, front::wgsl::parse_str};
        let source = self.source()?;
        let module = parse_str(&source).map_err(|e| Error::Device {
            device: "gpu".into(),
            detail: format!("kernel {} does not parse: {}", self.name(), e.emit_to_string(&source)),
        })?;
        let bytes = |space: AddressSpace| -> u32 {
            let inside = module.global_variables.iter().filter(|(_, v)| v.space == space);
            inside.filter_map(|(_, v)| module.types[v.ty].inner.try_size(module.to_ctx())).sum()
        };
        Ok(Needs {
            threads: module.entry_points.iter().map(|e| e.workgroup_size.iter().product()).max().unwrap_or(0),
            workgroup_bytes: bytes(AddressSpace::WorkGroup),
            buffers: module.global_variables.iter().filter(|(_, v)| v.binding.is_some()).count() as u32,
            params_bytes: bytes(AddressSpace::Immediate),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shader_is_there_and_no_name_twice() {
        let all = variants();
        let names: BTreeSet<String> = all.iter().map(Variant::name).collect();
        assert_eq!(names.len(), all.len());
        for shader in shaders::ALL {
            assert!(all.iter().any(|v| v.shader == *shader), "{}", shader.name);
        }
    }

    #[test]
    fn needs_are_those_of_the_source() {
        let needs = |shader, constants: &[(&'static str, u32)]| {
            Variant { shader, constants: constants.to_vec() }.needs().unwrap()
        };
        // Tiles of 129 · 16 numbers of A and of B.
        let deep = needs(shaders::MATMUL_BLOCKED, &[("DEPTH", 16)]);
        assert_eq!(deep, Needs { threads: 256, workgroup_bytes: 2 * 129 * 16 * 4, buffers: 3, params_bytes: 52 });
        let units = needs(shaders::MATMUL_COOPERATIVE, &[("TYPE", 1), ("SIZE", 16), ("SUBGROUP", 64)]);
        assert_eq!((units.threads, units.buffers), (256, 4));
    }
}
