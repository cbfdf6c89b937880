//! Every kernel that the engine can ask for, on the compilers of GPUs that are not there: it compiles, it does not spill more than is
//! known, and enough of it runs at once. `tests/compilers/fill.sh DIR` gets the compilers; LAPIDARY_COMPILERS names DIR.
//!
//! Usual devices, DXC and Tint are for each change; all devices and FXC are `--ignored`:
//! `LAPIDARY_COMPILERS=… cargo test --test compilers -- --include-ignored`. With LAPIDARY_WRITE_TABLE set
//! their columns of the table are written anew; LAPIDARY_COMPILE_FOR names some of all devices.
#![cfg(feature = "gpu")]
#[path = "compilers/devices.rs"]
mod devices;
#[path = "compilers/table.rs"]
mod table;

use devices::{DEVICES, Device, Maker, Place};
use engine::gpu::{Variant, variants};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use table::{Cell, Figures, Table};

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results/kernels-by-compiler.md");

/// Waves that a SIMD or multiprocessor, threads that a core has to hold, so that some compute while others wait; numbers in a vector.
fn fewest(maker: Maker) -> u32 {
    match maker {
        Maker::Amd => 1,
        Maker::Qualcomm => 2,
        Maker::Nvidia => 8,
        Maker::Apple => 384,
        Maker::Intel => 8,
    }
}

/// Where `fill.sh` put the compilers, or a visible skip.
fn place() -> Option<Place> {
    let Some(dir) = std::env::var_os("LAPIDARY_COMPILERS") else {
        eprintln!("SKIPPED: LAPIDARY_COMPILERS names no directory; tests/compilers/fill.sh makes one");
        return None;
    };
    let dir = PathBuf::from(dir);
    Some(Place(dir.canonicalize().unwrap_or_else(|e| panic!("LAPIDARY_COMPILERS={}: {e}", dir.display()))))
}

/// Writes every variant as WGSL, and a manifest: name, checked or not, threads, bytes that they share, buffers, bytes of
/// scalars, size and subgroup of matrix units.
fn write_kernels(dir: &Path) -> Vec<Variant> {
    let all = variants();
    let mut manifest = String::new();
    for variant in &all {
        let source = variant.source().unwrap_or_else(|e| panic!("{}: {e}", variant.name()));
        std::fs::write(dir.join(format!("{}.wgsl", variant.name())), source).expect("written");
        let needs = variant.needs().unwrap_or_else(|e| panic!("{e}"));
        let constant = |name| variant.constants.iter().find(|(n, _)| *n == name).map_or(0, |&(_, value)| value);
        let numbers = [
            u32::from(variant.is_checked()),
            needs.threads,
            needs.workgroup_bytes,
            needs.buffers,
            needs.params_bytes,
            constant("SIZE"),
            constant("SUBGROUP"),
        ];
        manifest += &format!("{}\t{}\n", variant.name(), numbers.map(|n| n.to_string()).join("\t"));
    }
    std::fs::write(dir.join("manifest.tsv"), manifest).expect("written");
    all
}

/// What the worker printed: kernels that compiled with what is said of them, those that the device does not take, and those
/// that did not compile.
#[derive(Default)]
struct Said {
    made: BTreeMap<String, String>,
    skipped: Vec<String>,
    failed: Vec<String>,
    head: String,
}

impl Said {
    fn read(output: &std::process::Output) -> Said {
        let mut said = Said::default();
        let mut started = "nothing";
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text.lines() {
            let mut parts = line.splitn(3, '\t');
            let (word, name, rest) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            match word {
                Some("KERNEL") => drop(said.made.insert(name.to_string(), rest.to_string())),
                Some("SKIPPED") => said.skipped.push(name.to_string()),
                Some("FAILED") => said.failed.push(format!("{name}: {rest}")),
                Some("DEVICE") => said.head = format!("{name}: {rest}"),
                Some("START") => started = name,
                _ => {}
            }
        }
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            said.failed.push(format!("the compiler ended at {started} ({}): {}", output.status, error.trim()));
        }
        said
    }
}

/// Compiles everything for these devices; the cells by kernel and device, and what went wrong.
fn compile(place: &Place, devices: &[&Device]) -> (Table, Vec<String>) {
    let dir = tempfile::tempdir().expect("a directory");
    let all = write_kernels(dir.path());
    let mut table = Table { mesa: place.mesa(), ..Table::default() };
    let mut wrong = Vec::new();
    for device in devices {
        table.devices.push(device.name.to_string());
        let said = Said::read(&place.compile(device, dir.path()));
        println!("{}: {} kernels, {} not for it; {}", device.name, said.made.len(), said.skipped.len(), said.head);
        wrong.extend(said.failed.iter().map(|failure| format!("{}: {failure}", device.name)));
        for variant in &all {
            let name = variant.name();
            let figures = said.made.get(&name).map(|said| Figures::read(device.maker, said));
            let cell = match figures {
                Some(Ok(figures)) => Cell::Made(figures),
                None => Cell::Skipped,
                Some(Err(error)) => {
                    wrong.push(format!("{}: {name}: {error}", device.name));
                    Cell::Skipped
                }
            };
            table.rows.entry(name).or_default().push(cell);
        }
    }
    (table, wrong)
}

/// Kernels of which too few waves run at once.
fn too_few_waves(table: &Table, devices: &[&Device]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (kernel, device) in table.rows.keys().flat_map(|kernel| devices.iter().map(move |device| (kernel, device))) {
        let Some(Cell::Made(figures)) = table.cell(kernel, device.name) else { continue };
        let least = fewest(device.maker);
        if figures.waves < least {
            wrong.push(format!("{}: {kernel}: {} at once, fewer than {least}", device.name, figures.waves));
        }
    }
    wrong
}

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} findings\n{}", wrong.len(), wrong.join("\n"));
}

/// Everything about these devices.
fn check(devices: &[&Device]) {
    let Some(place) = place() else { return };
    let (now, mut wrong) = compile(&place, devices);
    if std::env::var_os("LAPIDARY_WRITE_TABLE").is_some() {
        let before = std::fs::read_to_string(RESULTS).ok().and_then(|text| Table::parse(&text).ok());
        let names: Vec<&str> = DEVICES.iter().map(|d| d.name).collect();
        let table = now.beside(&before.unwrap_or_default(), &names);
        std::fs::write(RESULTS, page(&table)).expect("written");
    }
    let text = std::fs::read_to_string(RESULTS).unwrap_or_else(|e| panic!("{RESULTS}: {e}"));
    let before = Table::parse(&text).unwrap_or_else(|e| panic!("{RESULTS}: {e}"));
    wrong.extend(too_few_waves(&now, devices));
    for (kernel, device) in now.rows.keys().flat_map(|kernel| devices.iter().map(move |device| (kernel, device.name))) {
        let cell = now.cell(kernel, device).unwrap_or(Cell::Skipped);
        let name = format!("{device}: {kernel}");
        wrong.extend(table::compare(&name, before.cell(kernel, device), cell, now.mesa == before.mesa));
    }
    wrong.extend(before.rows.keys().filter(|k| !now.rows.contains_key(*k)).map(|k| format!("{k}: in the table alone")));
    report(&wrong);
}

/// The result file.
fn page(table: &Table) -> String {
    let in_table = |device: &&Device| table.devices.iter().any(|name| name == device.name);
    let devices: Vec<String> = DEVICES.iter().filter(in_table).map(|d| format!("- {}: {}", d.name, d.what)).collect();
    format!(
        "# What compilers make of the kernels\n\n\
         Mesa {}, of Debian's unstable suite: its compilers for GPUs that were not there. Nothing ran, nothing was timed.\n\
         The test `tests/compilers.rs` wrote it and keeps it true; with another version of Mesa it holds registers to a quarter more, waves to a quarter\n\
         fewer, and spills to no more than here.\n\n\
         A cell is registers of a thread / subgroups that run at once (AMD: of a SIMD, of 16, on GCN of 10; NVIDIA: of a multiprocessor, of\n\
         48 or 64; Adreno: of a core; Apple: threads of a core, of 1024; Intel: numbers in a vector), then, where there are any: `s`\n\
         registers spilled to memory, `c` bytes of memory of a thread for other reasons, `m` instructions of matrix units. –: the device\n\
         does not take it (matrices or subgroups that it has not, too many buffers). Constants stand behind a kernel's name: TYPE is B's\n\
         element type and LAYOUT as in `shaders/matmul_operands.wgsl` and `blocks.wgsl`.\n\n\
         {}\n\n## By device\n\n{}\n## By kernel\n\n{}",
        table.mesa,
        devices.join("\n"),
        table.summary(),
        table.body(),
    )
}

#[test]
fn every_variant_has_a_source_and_needs() {
    let dir = tempfile::tempdir().expect("a directory");
    let all = write_kernels(dir.path());
    let manifest = std::fs::read_to_string(dir.path().join("manifest.tsv")).expect("a manifest");
    assert_eq!(manifest.lines().count(), all.len());
    assert!(manifest.lines().all(|line| line.split('\t').count() == 8));
    // 16 KiB of workgroup memory and 256 threads are what WebGPU guarantees; 32 KiB what the engine takes at most.
    for variant in all.iter().filter(|v| !v.is_cooperative()) {
        let needs = variant.needs().expect("it parses");
        assert!(needs.threads <= 256 && needs.workgroup_bytes <= 32 << 10, "{}: {needs:?}", variant.name());
    }
}

#[test]
fn usual_devices() {
    check(&DEVICES.iter().filter(|d| d.is_usual).collect::<Vec<_>>());
}

#[test]
#[ignore = "compiles for 18 devices: minutes"]
fn all_devices() {
    let only = std::env::var("LAPIDARY_COMPILE_FOR").ok();
    let is_wanted = |device: &&Device| only.as_ref().is_none_or(|names| names.split(',').any(|n| n == device.name));
    check(&DEVICES.iter().filter(is_wanted).collect::<Vec<_>>());
}

/// MSL and HLSL of every kernel, and Microsoft's newer compiler on the HLSL.
#[test]
fn metal_and_dx12() {
    let Some(place) = place() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let all = write_kernels(dir.path());
    let output = Command::new(place.worker()).arg("translate").arg(dir.path()).output().expect("the worker");
    let translated = Said::read(&output);
    report(&translated.failed);
    assert_eq!(translated.made.len(), all.len());
    let output = Command::new("python3")
        .arg("tests/compilers/dxc.py")
        .args([&place.0.join("libdxcompiler.so"), dir.path()])
        .output()
        .expect("python3");
    let dxc = Said::read(&output);
    report(&dxc.failed);
    assert_eq!(dxc.made.len(), all.iter().filter(|v| !v.is_cooperative()).count());
}

/// Microsoft's older compiler, which wgpu takes where the newer is not installed.
#[test]
#[ignore = "starts Wine for every kernel: minutes"]
fn fxc() {
    let Some(place) = place() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let all = write_kernels(dir.path());
    let translated = Command::new(place.worker()).arg("translate").arg(dir.path()).output().expect("the worker");
    report(&Said::read(&translated).failed);
    let output = Command::new("tests/compilers/fxc.sh").arg(&place.0).arg(dir.path()).output().expect("fxc.sh");
    let said = Said::read(&output);
    let is_known = |failure: &&String| FXC_REFUSES.iter().any(|name| failure.starts_with(&format!("{name}: ")));
    report(&said.failed.iter().filter(|failure| !is_known(failure)).cloned().collect::<Vec<_>>());
    assert_eq!(said.failed.len(), FXC_REFUSES.len(), "one that was refused is taken: {:?}", said.failed);
    let expected = all.iter().filter(|v| !v.is_cooperative()).count();
    assert_eq!(said.made.len() + said.failed.len(), expected);
}

/// Barriers that FXC takes to stand where not all threads come (X3663).
const FXC_REFUSES: [&str; 2] = ["sample-MODE1", "sample-MODE2"];

/// The compiler of Chromium, which is stricter about barriers than WGSL's other readers.
#[test]
fn tint() {
    let Some(place) = place() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let all = write_kernels(dir.path());
    let output = Command::new("node")
        .arg("tests/compilers/tint.mjs")
        .args([&place.0.join("dawn"), dir.path()])
        .output()
        .expect("node");
    let said = Said::read(&output);
    report(&said.failed);
    assert_eq!(said.made.len(), all.iter().filter(|v| !v.is_cooperative()).count(), "{}", said.head);
}
