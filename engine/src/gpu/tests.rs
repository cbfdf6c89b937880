//! Kernels on Mesa's software Vulkan. Without it tests say that they are skipped, and fail where CI is set.
use super::*;
use crate::backend::*;
use crate::buffer::Host;

mod sample;

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

/// The same with f16 operands on matrix units, or a visible skip; a failure where LAPIDARY_COOPERATIVE is `required`.
fn cooperative(options: GpuOptions) -> Option<Arc<Gpu>> {
    let gpu = software(GpuOptions { f16_operands: true, ..options })?;
    if gpu.cooperative.is_some() {
        return Some(gpu);
    }
    let required = std::env::var("LAPIDARY_COOPERATIVE").is_ok_and(|v| v == "required");
    assert!(!required, "{} has no cooperative matrices, or they are wrong", gpu.label);
    eprintln!("SKIPPED: {} has no cooperative matrices; tests/with-mesa.sh gets a driver that has", gpu.label);
    None
}

fn checked() -> GpuOptions {
    GpuOptions { checked: true, ..Default::default() }
}

#[test]
fn every_shader_compiles() {
    let Some(gpu) = software(checked()) else { return };
    for &shader in shaders::ALL.iter().filter(|s| **s != shaders::MATMUL_COOPERATIVE) {
        gpu.compile(shader, &[]).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// The kernel for matrix units, is valid WGSL in both sizes, though few adapters run it.
#[test]
fn cooperative_matrices_are_valid() {
    for size in [8, 16] {
        let source =
            recorder::substitute(shaders::MATMUL_COOPERATIVE, &[("SIZE", size), ("LAYOUT", 1), ("TYPE", 1)]).unwrap();
        let module =
            wgpu::naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&source)));
        let all = wgpu::naga::valid::Capabilities::all();
        let mut validator = wgpu::naga::valid::Validator::new(wgpu::naga::valid::ValidationFlags::all(), all);
        validator.validate(&module).unwrap_or_else(|e| panic!("{size}: {}", e.emit_to_string(&source)));
    }
}

fn values(n: usize, seed: u64) -> Vec<f32> {
    let stream = crate::random::Stream::new(seed, 0);
    (0..n as u64).map(|i| stream.normal(i)).collect()
}

fn up(gpu: &Gpu, v: &[f32]) -> Buffer {
    gpu.upload(Host::F32(v.to_vec())).unwrap()
}

fn down(gpu: &Gpu, x: &Buffer) -> Vec<f32> {
    gpu.download_f32(&[x]).unwrap().remove(0)
}

/// Runs the suite that compares every kernel with the reference.
fn verify(options: GpuOptions) {
    let Some(gpu) = software(options) else { return };
    let device: crate::backend::Device = gpu;
    let reports = crate::verify::verify_backend(&device, crate::verify::Tolerance { absolute: 1e-5, relative: 1e-4 });
    let failed: Vec<String> = reports.iter().filter(|r| !r.passed).map(|r| r.to_string()).collect();
    assert!(failed.is_empty(), "{} of {} cases\n{}", failed.len(), reports.len(), failed.join("\n"));
}

#[test]
fn every_kernel_with_bounds_checks() {
    verify(checked());
}

#[test]
fn every_kernel_without_bounds_checks_immediates_or_many_buffers() {
    verify(GpuOptions { no_immediates: true, max_bindings: Some(8), ..Default::default() });
}

/// Products with f16 weights on matrix units; the others as ever.
#[test]
fn every_kernel_with_f16_operands() {
    let Some(gpu) = cooperative(checked()) else { return };
    let device: crate::backend::Device = gpu.clone();
    let reports = crate::verify::verify_backend(&device, crate::verify::Tolerance::FLOAT16);
    let failed: Vec<String> = reports.iter().filter(|r| !r.passed).map(|r| r.to_string()).collect();
    assert!(failed.is_empty(), "{} of {} cases\n{}", failed.len(), reports.len(), failed.join("\n"));
    assert!(gpu.counts().kernels["matmul_cooperative"].dispatches >= 32, "{:?}", gpu.counts());
}

/// Matrix units that are wrong are found when the device is opened.
#[test]
fn wrong_matrix_units_are_found() {
    let Some(gpu) = cooperative(checked()) else { return };
    assert!(gpu.cooperative_is_right().unwrap() && gpu.name().ends_with("f16 operands"));
    for (from, to) in [
        ("i0 + s / TILE < p.m", "i0 + s / TILE + 1u < p.m"),
        ("(a0, b1, sum01)", "(a0, b0, sum01)"),
        ("inverse(row_scale[s / TILE])", "1.0"),
        ("l0 += DEPTH", "l0 += 2u * DEPTH"),
    ] {
        let plant = Plant { kernel: "matmul_cooperative", from, to };
        let gpu = cooperative(GpuOptions { planted: vec![plant], ..checked() }).unwrap();
        assert!(!gpu.cooperative_is_right().unwrap(), "{to}");
    }
    let nowhere = Plant { kernel: "matmul_cooperative", from: "no such text", to: "" };
    let gpu = cooperative(GpuOptions { planted: vec![nowhere], ..checked() }).unwrap();
    assert!(gpu.cooperative_is_right().unwrap_err().to_string().contains("no such text"));
}

/// Tensors above 16 KiB do not fit a binding.
#[test]
fn every_kernel_on_windows_of_its_tensors() {
    let Some(gpu) = software(GpuOptions { max_binding_bytes: Some(16 << 10), ..checked() }) else { return };
    let device: crate::backend::Device = gpu;
    let reports = crate::verify::verify_backend(&device, crate::verify::Tolerance { absolute: 1e-5, relative: 1e-4 });
    // What cannot be cut says so, nothing is wrong silently, and no more is refused than what is known: attention over
    // tensors that do not fit whole, tables that are read in any order, rows of which fewer than 64 fit,
    // or none.
    let (cut, refused): (Vec<_>, Vec<_>) =
        reports.iter().partition(|r| !(r.detail.contains("sees at once") || r.detail.contains("too long for")));
    let failed: Vec<String> = cut.iter().filter(|r| !r.passed).map(|r| r.to_string()).collect();
    assert!(failed.is_empty(), "{} of {} cases\n{}", failed.len(), reports.len(), failed.join("\n"));
    let mut kernels = std::collections::BTreeMap::new();
    for report in &refused {
        *kernels.entry(report.name.split([' ', ',']).next().unwrap_or_default()).or_insert(0) += 1;
    }
    let known = [
        ("add_rms_norm", 1),
        ("attention", 61),
        ("attention_backward", 41),
        ("gather_rows", 12),
        ("log_probs", 2),
        ("log_probs_backward", 2),
        ("rms_norm", 1),
        ("rms_norm_backward", 2),
        ("rope", 6),
        ("sample", 36),
        ("scatter_add_rows", 3),
        ("sum_rows", 2),
        ("write_rows", 1),
    ];
    assert_eq!(kernels.into_iter().collect::<Vec<_>>(), known, "{refused:#?}");
}

/// Random blocks of every quantised type: decoded, gathered and multiplied as the CPU decodes them.
#[test]
fn quantised_weights() {
    use crate::backend::RowIndex;
    use crate::dtype::Quant;
    let Some(gpu) = software(checked()) else { return };
    let quants =
        [Quant::Q4_0, Quant::Q4_1, Quant::Q5_0, Quant::Q5_1, Quant::Q8_0, Quant::Q4_K, Quant::Q5_K, Quant::Q6_K];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/quant_blocks.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for q in quants {
        let dtype = DType::Quant(q);
        let blocks = file.tensor(&format!("{}.blocks", dtype.name())).unwrap().data().to_vec();
        let n = blocks.len() / q.block_bytes() * q.block_len();
        let mut want = vec![0f32; n];
        crate::quant::decode_row(q, &blocks, &mut want).unwrap();
        let (d, rows) = (q.block_len(), n / q.block_len());
        let weights = gpu.upload(Host::Blocks(dtype, blocks)).unwrap();
        let close = |what: &str, got: Vec<f32>, want: &[f32]| {
            assert_eq!(got.len(), want.len(), "{what}");
            for (i, (g, w)) in got.iter().zip(want).enumerate() {
                let both_nan = g.is_nan() && w.is_nan();
                assert!(both_nan || g == w || (g - w).abs() <= 1e-5 * w.abs(), "{what} {} {i}: {g} {w}", dtype.name());
            }
        };
        close("cast", down(&gpu, &gpu.cast(&weights, n, DType::F32).unwrap()), &want);
        let index = RowIndex::new(&*gpu, &[rows as u32 - 1, 0]).unwrap();
        let picked = [&want[n - d..], &want[..d]].concat();
        close("gather", down(&gpu, &gpu.gather_rows(&weights, &index, d).unwrap()), &picked);
        // A row of the identity picks a weight of each row.
        let mut unit = vec![0f32; d];
        unit[7] = 1.0;
        let p = Product { layout: Layout::NT, m: 1, n: rows, k: d, alpha: 1.0 };
        if want.iter().all(|w| w.is_finite()) {
            let column: Vec<f32> = want.chunks(d).map(|row| row[7]).collect();
            close("matmul", down(&gpu, &gpu.matmul(p, &up(&gpu, &unit), &weights, None).unwrap()), &column);
        }
    }
}

/// Twenty tensors are three dispatches of AdamW and two of sums of squares, and the sums have the bits of one tensor at a time.
#[test]
fn many_tensors_share_a_dispatch() {
    use crate::backend::{AdamWStep, Trained};
    let sizes: Vec<usize> = (0..20).map(|i| [5000, 64, 577, 1][i % 4]).collect();
    let run = |max_bindings| {
        let gpu = software(GpuOptions { max_bindings, ..checked() })?;
        let mut all: [Vec<Buffer>; 4] =
            [1, 2, 3, 4].map(|seed| sizes.iter().map(|&n| up(&gpu, &values(n, seed))).collect());
        gpu.reset_counts();
        let sums = gpu.sum_squares(&all[3].iter().zip(sizes.iter().copied()).collect::<Vec<_>>()).unwrap();
        let step = AdamWStep { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-3, step: 3, grad_scale: 0.5 };
        let [p, m, v, grads] = &mut all;
        v.iter_mut().zip(&sizes).for_each(|(v, &n)| *v = gpu.unary(Unary::Square, v, n).unwrap());
        let moments = m.iter_mut().zip(v).zip(grads.iter().zip(&sizes));
        let one = |(p, ((m, v), (grad, &n)))| Trained { p, m, v, grad, n, weight_decay: 0.1 * n as f64 / 5000.0 };
        gpu.adamw(&mut p.iter_mut().zip(moments).map(one).collect::<Vec<_>>(), step).unwrap();
        let counts = gpu.counts();
        let dispatches = |name: &str| counts.kernels.get(name).map_or(0, |work| work.dispatches);
        let stepped: Vec<f32> = gpu.download_f32(&p.iter().collect::<Vec<_>>()).unwrap().concat();
        let names = ["adamw_many", "adamw", "sum_squares_many", "sum_squares"];
        Some((names.map(dispatches), sums.iter().map(|s| s.to_bits()).collect::<Vec<_>>(), stepped))
    };
    let (Some((many, sums, stepped)), Some((one, same_sums, same))) = (run(None), run(Some(8))) else { return };
    assert_eq!((many, one), ([3, 0, 2, 0], [0, 20, 0, 20]));
    assert_eq!(sums, same_sums);
    for (a, b) in stepped.iter().zip(&same) {
        assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{a} {b}");
    }
}

/// A buffer that recorded work still reads is not overwritten by an upload that comes later.
#[test]
fn uploads_in_the_middle_of_a_step() {
    let Some(gpu) = software(checked()) else { return };
    let n = 1000;
    let mut doubled = Vec::new();
    for i in 0..100u32 {
        let x = up(&gpu, &vec![i as f32; n]);
        doubled.push(gpu.unary(Unary::Affine(2.0, 0.0), &x, n).unwrap());
    }
    for (i, x) in doubled.iter().enumerate() {
        assert_eq!(down(&gpu, x), vec![2.0 * i as f32; n]);
    }
}

/// In place where nobody else holds the buffer, on a copy where somebody does.
#[test]
fn in_place_work_leaves_other_owners_alone() {
    let Some(gpu) = software(checked()) else { return };
    let mut y = up(&gpu, &[1.0, 2.0, 3.0]);
    let held = y.clone();
    let x = up(&gpu, &[10.0, 20.0, 30.0]);
    gpu.add_scaled(&mut y, 0.5, &x, 3).unwrap();
    assert_eq!(down(&gpu, &y), [6.0, 12.0, 18.0]);
    assert_eq!(down(&gpu, &held), [1.0, 2.0, 3.0]);
    let address = |y: &Buffer| y.device::<GpuBuffer>().map(std::ptr::from_ref);
    let (before, live) = (address(&y), gpu.memory_use().live_bytes);
    gpu.add_scaled(&mut y, 0.5, &x, 3).unwrap();
    assert_eq!(before, address(&y));
    assert_eq!(live, gpu.memory_use().live_bytes);
}

/// The pool gives the same memory out again: a step repeated takes no more.
#[test]
fn memory_is_used_again() {
    let Some(gpu) = software(checked()) else { return };
    let step = || {
        let x = up(&gpu, &values(5000, 3));
        let y = gpu.unary(Unary::Exp, &x, 5000).unwrap();
        down(&gpu, &gpu.binary(Binary::Add, &x, &y, 5000, 5000).unwrap())
    };
    // What the first step had in flight comes back with the second.
    let first = step();
    assert_eq!(step(), first);
    let used = gpu.memory_use();
    assert_eq!(used.live_bytes, 0);
    for _ in 0..5 {
        assert_eq!(step(), first);
    }
    assert_eq!(gpu.memory_use(), used);
}

#[test]
fn the_same_bits_each_time() {
    let Some(gpu) = software(checked()) else { return };
    let shape = AttentionShape { n_heads: 6, n_kv_heads: 2, head_size: 20, scale: 0.2, window: 50 };
    let mut forest = crate::forest::Forest::new();
    let root = forest.push(None, &[0; 70]).unwrap();
    forest.push(Some(root), &[0; 33]).unwrap();
    forest.push(Some(root), &[0; 9]).unwrap();
    let t = forest.n_tokens();
    let run = || {
        let plan = forest.attention_plan();
        let (q, k, v) = (values(t * 120, 1), values(t * 40, 2), values(t * 40, 3));
        let (q, k, v) = (up(&gpu, &q), up(&gpu, &k), up(&gpu, &v));
        let (o, lse) = gpu.attention(AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v }).unwrap();
        let (dq, dk, dv) =
            gpu.attention_backward(AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v }, &o, &lse, &q).unwrap();
        let p = Product { layout: Layout::TN, m: 120, n: 40, k: t, alpha: 1.0 };
        let c = gpu.matmul(p, &q, &dk, None).unwrap();
        let s = gpu.sum_rows(&dq, t, 120).unwrap();
        let bits = |x: &Vec<f32>| x.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        let all = gpu.download_f32(&[&o, &lse, &dq, &dk, &dv, &c, &s]).unwrap();
        (all.iter().map(bits).collect::<Vec<_>>(), gpu.sum_squares(&[(&dv, t * 40), (&q, t * 120)]).unwrap())
    };
    let first = run();
    for _ in 0..3 {
        assert_eq!(run(), first);
    }
}

#[test]
fn misuse_is_an_error_that_says_so() {
    let Some(gpu) = software(GpuOptions { max_buffer_bytes: Some(1 << 20), ..checked() }) else { return };
    let Some(other) = software(checked()) else { return };
    let x = up(&gpu, &[1.0; 8]);
    let message = |r: Result<Buffer>| r.unwrap_err().to_string();
    assert!(message(gpu.unary(Unary::Exp, &x, 9)).contains("9 elements needed, 8 found"));
    assert!(message(gpu.unary(Unary::Exp, &Buffer::from_f32(vec![1.0]), 1)).contains("host memory"));
    assert!(message(other.unary(Unary::Exp, &x, 1)).contains("another GPU"));
    assert!(message(gpu.zeros(1 << 20)).contains("4 MiB is more than this device's 1 MiB"));
    let p = Product { layout: Layout::NT, m: 2, n: 2, k: 5, alpha: 1.0 };
    assert!(message(gpu.matmul(p, &x, &x, None)).contains("10 elements needed, 8 found"));
    // The device works on.
    assert_eq!(down(&gpu, &gpu.unary(Unary::Affine(1.0, 1.0), &x, 8).unwrap()), [2.0; 8]);
    if Gpu::list().iter().all(|d| d.kind == AdapterKind::Software) {
        let error = Gpu::open(AdapterSelect::Auto).unwrap_err().to_string();
        assert!(error.contains("no GPU") && error.contains("--device cpu") && error.contains("llvmpipe"), "{error}");
    }
    assert!(Gpu::open(AdapterSelect::Index(99)).is_err());
}

/// A driver's message outside any call that returns errors stops the work at the next submit.
#[test]
fn a_lost_device_is_an_error() {
    let Some(gpu) = software(checked()) else { return };
    let x = up(&gpu, &[1.0; 8]);
    gpu.faults.report("the device was lost: unplugged".into());
    let y = gpu.unary(Unary::Exp, &x, 8);
    let error = y.and_then(|y| gpu.download(&y)).unwrap_err().to_string();
    assert!(error.contains("llvmpipe") && error.contains("unplugged"), "{error}");
}

/// The example at the head of attention.wgsl, with its tile.
#[test]
fn worked_example_of_attention() {
    let Some(gpu) = software(checked()) else { return };
    let shape = AttentionShape { n_heads: 1, n_kv_heads: 1, head_size: 3, scale: 1.0, window: usize::MAX };
    let plan = crate::forest::Forest::from_sequences(&[vec![0, 0]]).unwrap().attention_plan();
    assert_eq!(attention::tiles(&plan, 1, 16).unwrap(), [0, 0, 2, 0, 0]);
    let q = up(&gpu, &[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    let k = up(&gpu, &[0.0, 0.0, 0.0, 3f32.ln(), 0.0, 0.0]);
    let v = up(&gpu, &[4.0, 8.0, 0.0, 8.0, 0.0, 4.0]);
    let (o, lse) = gpu.attention(AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v }).unwrap();
    let near = |found: Vec<f32>, expected: &[f32]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}, not {expected:?}");
    };
    near(down(&gpu, &o), &[4.0, 8.0, 0.0, 7.0, 2.0, 3.0]);
    near(down(&gpu, &lse), &[0.0, 4f32.ln()]);
}

/// The example at the head of blocks.wgsl: a block of Q4_0.
#[test]
fn worked_example_of_blocks() {
    let Some(gpu) = software(checked()) else { return };
    let mut block = vec![0x00, 0x38, 0x21, 0x43];
    block.resize(18, 0x88);
    let x = gpu.upload(Host::Blocks(DType::Quant(crate::dtype::Quant::Q4_0), block)).unwrap();
    let values = down(&gpu, &gpu.cast(&x, 32, DType::F32).unwrap());
    assert_eq!([values[0], values[16], values[1]], [-3.5, -3.0, -2.5]);
}

/// The slower kernels of attention against the reference: the tiled ones on everything that the fast ones have to pass, the plain
/// ones, which compute every score for every column, without the largest forests.
#[test]
fn rungs_of_attention() {
    let plain = &[
        "small",
        "grandchildren",
        "large scores",
        "E=8 window",
        "prompt in pieces",
        "a path of 300",
        "decoding, H=9 K=3 E=80",
    ];
    for (attention, cases) in [(AttentionRung::Tiled, &[""][..]), (AttentionRung::Plain, plain)] {
        let Some(gpu) = software(GpuOptions { attention, ..checked() }) else { return };
        let device: Device = gpu.clone();
        for only in cases {
            let tolerance = crate::verify::Tolerance { absolute: 1e-5, relative: 1e-4 };
            let reports = crate::verify::verify_attention(&device, tolerance, only);
            assert!(!reports.is_empty(), "{only}");
            let failed: Vec<String> = reports.iter().filter(|r| !r.passed).map(|r| r.to_string()).collect();
            assert!(failed.is_empty(), "{attention:?}: {failed:#?}");
        }
        let counts = gpu.counts();
        let name = if attention == AttentionRung::Plain { "attention_plain" } else { "attention_tiled" };
        assert!(counts.kernels.contains_key(name) && !counts.kernels.contains_key("attention"), "{counts:?}");
    }
}

/// Software Vulkan ends all loops of a thread after 65,535 rounds: the longest path that is right there is taken, a longer one refused.
#[test]
fn a_path_too_long_for_software_is_refused() {
    let shape = AttentionShape { n_heads: 1, n_kv_heads: 1, head_size: 64, scale: 0.1, window: usize::MAX };
    for (attention, longest) in
        [(AttentionRung::Shared, 428 * 64), (AttentionRung::Tiled, 201 * 64), (AttentionRung::Plain, 1724)]
    {
        let Some(gpu) = software(GpuOptions { attention, ..checked() }) else { return };
        let plan = |keys: usize| {
            let mut plan = crate::forest::AttentionPlan { n_keys: keys, ..Default::default() };
            plan.push_queries(1, keys - 1, &(0..keys as u32).collect::<Vec<_>>());
            plan
        };
        let [q, k, v] = [(1, 1), (2, longest + 1), (3, longest + 1)].map(|(seed, rows)| values(rows * 64, seed));
        let [gq, gk, gv] = [&q, &k, &v].map(|x| up(&gpu, x));
        let [q, k, v] = [q, k, v].map(Buffer::from_f32);
        let reference = crate::reference::Reference;
        let (_, expected) =
            reference.attention(AttentionInputs { shape, plan: &plan(longest), q: &q, k: &k, v: &v }).unwrap();
        let (_, lse) = gpu.attention(AttentionInputs { shape, plan: &plan(longest), q: &gq, k: &gk, v: &gv }).unwrap();
        let (found, expected) = (down(&gpu, &lse)[0], expected.f32().unwrap()[0]);
        assert!((found - expected).abs() < 1e-4, "{attention:?}: {found}, not {expected}");
        let error = gpu.attention(AttentionInputs { shape, plan: &plan(longest + 1), q: &gq, k: &gk, v: &gv });
        let error = error.expect_err("a longer path").to_string();
        assert!(error.contains("65535"), "{error}");
    }
}

/// A rung that the driver does not compile, or for which the device has too little workgroup memory, takes no product; another does.
#[test]
fn a_rung_that_a_device_does_not_take_is_left_out() {
    let p = Product { layout: Layout::NN, m: 64, n: 64, k: 16, alpha: 1.0 };
    let product = |options: GpuOptions| {
        let gpu = software(GpuOptions { hardware_rungs: true, ..options })?;
        let (a, b) = (up(&gpu, &values(p.m * p.k, 1)), up(&gpu, &values(p.k * p.n, 2)));
        let c = gpu.matmul(p, &a, &b, None).unwrap_or_else(|e| panic!("{e}"));
        let bits = down(&gpu, &c).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        Some((bits, gpu.counts().kernels.keys().copied().collect::<Vec<_>>(), gpu))
    };
    let Some((all, kernels, gpu)) = product(GpuOptions { max_workgroup_bytes: Some(16 << 10), ..checked() }) else {
        return;
    };
    assert_eq!(kernels, ["matmul_register"]);
    // WGSL that no driver takes: by shape, and where all are measured.
    let broken = |kernel| Plant { kernel, from: "workgroupBarrier()", to: "no_such_barrier()" };
    let planted = vec![broken("matmul_register"), broken("matmul_blocked")];
    for tune in [false, true] {
        let (bits, kernels, _) = product(GpuOptions { tune, planted: planted.clone(), ..checked() }).unwrap();
        assert_eq!((bits == all, &kernels[..]), (true, &["matmul_tiled"][..]), "{tune}");
    }
    // Workgroup memory: tiles 16 deep take 16,512 bytes, what Vulkan guarantees is 16,384.
    let deep = [("LAYOUT", 0), ("TYPE", 0), ("DEPTH", 16)];
    assert!(!gpu.takes(shaders::MATMUL_BLOCKED, &deep).unwrap());
    assert!(gpu.takes(shaders::MATMUL_REGISTER, &deep[..2]).unwrap());
    let error = gpu.compile(shaders::MATMUL_BLOCKED, &deep).unwrap_err().to_string();
    assert!(error.contains("16512 bytes of workgroup memory"), "{error}");
}

/// Of the ways to use matrix units the first that gives the right values is taken: where subgroups are larger than the kernel
/// thinks they do each other's work wrongly, where they are smaller they do the same work twice.
#[test]
fn the_smallest_subgroup_that_is_right_is_taken() {
    let Some(gpu) = cooperative(checked()) else { return };
    let adapter::Cooperative { size, subgroup } = gpu.cooperative.unwrap();
    let mut gpu = Arc::into_inner(gpu).unwrap();
    let mut first_right = |subgroups: &[u32]| {
        let ways: Vec<_> = subgroups.iter().map(|&subgroup| adapter::Cooperative { size, subgroup }).collect();
        gpu.first_right(&ways).unwrap().map(|way| way.subgroup)
    };
    assert_eq!(first_right(&[subgroup / 2, subgroup, 2 * subgroup]), Some(subgroup));
    assert_eq!(first_right(&[2 * subgroup]), Some(2 * subgroup));
    assert_eq!(first_right(&[subgroup / 2]), None);
}

/// Work that would take a slow device long is submitted in parts, light work 48 dispatches at a time.
#[test]
fn heavy_work_is_submitted_sooner() {
    let Some(gpu) = software(GpuOptions { count_only: true, ..checked() }) else { return };
    let submits = |n: usize, dispatches: usize| {
        let p = Product { layout: Layout::NT, m: n, n, k: n, alpha: 1.0 };
        let x = gpu.zeros(n * n).unwrap();
        gpu.reset_counts();
        for _ in 0..dispatches {
            gpu.matmul(p, &x, &x, None).unwrap();
        }
        gpu.counts().submits
    };
    // 2 · 256³ operations are 0.03 GFLOP, 2 · 4096³ 137.
    assert_eq!(submits(256, 96), 2);
    assert_eq!(submits(4096, 3), 3);
    // 2 · 2048³ are 17: six together are 103.
    assert_eq!(submits(2048, 12), 2);
    // Bytes: a copy of 1 GiB reads and writes 2.1 GB; four are 8.6.
    let x = gpu.zeros(1 << 28).unwrap();
    gpu.reset_counts();
    for _ in 0..8 {
        gpu.unary(Unary::Exp, &x, 1 << 28).unwrap();
    }
    assert_eq!(gpu.counts().submits, 2);
}
