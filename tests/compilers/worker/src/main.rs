//! Compiles the kernels of a directory that `tests/compilers.rs` filled: WGSL files, and `manifest.tsv` with a line for each.
//! `translate DIR` writes SPIR-V, MSL and HLSL beside them; `pipelines DIR` gives them to the first Vulkan device there is. What came of a
//! kernel is a line on standard output: a word, its name, and what is to be said of it, parted by tabs.
mod device;
mod translate;

use std::path::Path;
use std::process::ExitCode;

type Outcome<T> = Result<T, String>;

/// A line of the manifest.
pub struct Kernel {
    pub name: String,
    /// Compiled with bounds checks.
    pub is_checked: bool,
    /// Threads of a workgroup, bytes that they share, buffers, bytes of scalars.
    pub threads: u32,
    pub workgroup_bytes: u32,
    pub buffers: u32,
    pub params_bytes: u32,
    /// Of matrix units: the matrices' size and the threads of a subgroup; else zeros.
    pub units: [u32; 2],
}

/// The kernels of `dir` whose names contain `only`.
fn manifest(dir: &Path, only: &str) -> Outcome<Vec<Kernel>> {
    let path = dir.join("manifest.tsv");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let kernel = |line: &str| -> Outcome<Kernel> {
        let (name, numbers) = line.split_once('\t').ok_or_else(|| format!("no numbers in {line:?}"))?;
        let numbers: Result<Vec<u32>, _> = numbers.split('\t').map(str::parse).collect();
        let numbers = numbers.ok().and_then(|n| <[u32; 7]>::try_from(n).ok());
        let [checked, threads, workgroup_bytes, buffers, params_bytes, size, subgroup] =
            numbers.ok_or_else(|| format!("not seven numbers in {line:?}"))?;
        let (is_checked, units) = (checked == 1, [size, subgroup]);
        Ok(Kernel { name: name.to_string(), is_checked, threads, workgroup_bytes, buffers, params_bytes, units })
    };
    let kernels: Outcome<Vec<Kernel>> = text.lines().map(kernel).collect();
    Ok(kernels?.into_iter().filter(|k| k.name.contains(only)).collect())
}

/// The start of a compiler's message.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(400).collect()
}

fn run(arguments: &[&str]) -> Outcome<()> {
    match *arguments {
        ["translate", dir] => translate::all(Path::new(dir), &manifest(Path::new(dir), "")?),
        ["pipelines", dir] => device::pipelines(Path::new(dir), &manifest(Path::new(dir), "")?),
        ["pipelines", dir, only] => device::pipelines(Path::new(dir), &manifest(Path::new(dir), only)?),
        _ => Err("usage: kernel-compilers translate DIR | pipelines DIR [PART_OF_A_NAME]".into()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kernel-compilers: {error}");
            ExitCode::from(2)
        }
    }
}
