//! The tests of the GPU's tests: one text of a kernel's source changed, and the suite flags a case of that kernel on the
//! device. Every file in shaders/ has a fault here. Kernels for matrix units need a device that has them.
use super::*;
use crate::backend::AttentionRung;
use crate::gpu::{AdapterKind, AdapterSelect, Gpu, GpuOptions, Plant, Rung};
use std::collections::BTreeSet;

/// A kernel (its file, and the rung of the product that takes it), a text in it, and what becomes of the text.
struct Fault {
    kernel: &'static str,
    rung: Option<Rung>,
    /// The cases run are those whose names contain this.
    only: &'static str,
    changes: &'static [(&'static str, &'static str)],
}

const fn of(kernel: &'static str, changes: &'static [(&'static str, &'static str)]) -> Fault {
    Fault { kernel, rung: None, only: "", changes }
}

const fn product(
    kernel: &'static str,
    rung: Rung,
    only: &'static str,
    changes: &'static [(&'static str, &'static str)],
) -> Fault {
    Fault { kernel, rung: Some(rung), only, changes }
}

const FAULTS: &[Fault] = &[
    of("adamw", &[("p.beta2_rest * g * g", "p.beta2_rest * g")]),
    of("adamw_many", &[("p.decay4", "p.decay3")]),
    of("adamw_many", &[("i -= p.fours2;", "i -= p.fours1;")]),
    of("add_rms_norm", &[("s[first + j] = value;", "")]),
    of("add_rms_norm", &[("fma(value, value, sum)", "fma(x[first + j], x[first + j], sum)")]),
    of("add_scaled", &[("if i * 4u >= p.n", "if i * 4u + 3u >= p.n")]),
    of(
        "attention",
        &[("positions[a] - vec4<u32>(x) < vec4<u32>(p.window)", "positions[a] - vec4<u32>(x) <= vec4<u32>(p.window)")],
    ),
    of("attention", &[("row_scale[lane] = exp(row_max[lane] - new_max)", "row_scale[lane] = 1.0")]),
    of("attention_backward_key", &[("(vec4<u32>(i) < ends[a])", "(vec4<u32>(i) <= ends[a])")]),
    of("attention_backward_query", &[("(rows[a] < vec4<u32>(key_end))", "(rows[a] <= vec4<u32>(key_end))")]),
    of("attention_delta", &[("var e = 0u; e < p.e", "var e = 1u; e < p.e")]),
    of("attention_plain", &[("last >= p.window", "last > p.window")]),
    of("attention_plain", &[("acc / sum", "acc")]),
    of("attention_plain_backward_key", &[("i < forest[p.t + row]; i++", "i + 1u < forest[p.t + row]; i++")]),
    of("attention_plain_backward_query", &[("j <= row; j++", "j < row; j++")]),
    of("attention_tiled", &[("acc *= shrink", "acc *= 1.0")]),
    of("attention_tiled", &[("x >= first && x <= last", "x <= last")]),
    of("attention_tiled_backward_key", &[("tile[y].x, d_o", "tile[y].y, d_o")]),
    of("attention_tiled_backward_query", &[("ds_tile[lane] = 0.0;", "ds_tile[lane] = 1.0;")]),
    of("attention_tiled_backward_query", &[("forest[i] - forest[j] < p.window", "true")]),
    of("binary", &[("(p.first + i) % p.n_b", "min(i, p.n_b - 1u)")]),
    of("cast", &[("rest == half && (down & 1u) == 1u", "rest == half")]),
    of("dropout", &[("15u, 26u, 6u", "15u, 26u, 5u")]),
    of("gather_rows", &[("row < p.row_last", "row + 1u < p.row_last")]),
    of("gather_rows", &[("select(16u, 48u, TYPE == 9u)", "16u")]),
    of("gather_rows", &[("(2u * group)", "(group)")]),
    of("log_probs", &[("other_index < best_index[lane]", "other_index > best_index[lane]")]),
    of("log_probs_backward", &[("hit - probability", "hit")]),
    of("penalise", &[("if z > 0.0", "if z < 0.0")]),
    of("rms_norm", &[("+ p.epsilon", "")]),
    of("rms_norm_backward", &[("r * r * (sums[0]", "r * (sums[0]")]),
    of("rms_norm_backward", &[("dx[first + j] += own", "dx[first + j] = own")]),
    of("rms_norm_backward_weight", &[("i < last", "i + 1u < last")]),
    of("rope", &[("c + x[i - half]", "c - x[i - half]")]),
    of("row_norms", &[("j = lane; j < p.n", "j = lane; j + 1u < p.n")]),
    of("row_norms_backward", &[("if y[row] == 0.0", "if y[row] < 0.0")]),
    of("row_norms_backward", &[("dy[row] / y[row]", "dy[i % p.n] / y[row]")]),
    of("sample", &[("b.y < a.y", "b.y > a.y")]),
    of("sample", &[("select(0u, 1u, low < a.x)", "0u")]),
    of("sample", &[("counter.zw", "vec2<u32>(counter.z, 0u)")]),
    of("sample", &[("i > last_equal", "i >= last_equal")]),
    of("sample", &[("times(equal, weight(cut))", "weight(cut)")]),
    of("sample", &[("found = Cut(found.key + step, all[1])", "found.key += step")]),
    of("sample", &[("12582912.0) - 12582912.0", "8388608.0) - 8388608.0")]),
    of("scatter_add_rows", &[("s < offsets[u + 1u]", "s < offsets[u] + 1u")]),
    of("sum_rows", &[("i < last", "i + 1u < last")]),
    of("sum_squares", &[("half = 32u", "half = 16u")]),
    of(
        "sum_squares_many",
        &[("case 9u: { return x9[", "case 9u: { return x8["), ("case 8u: { return x8[", "case 8u: { return x9[")],
    ),
    of("sum_squares_many", &[("p.first_block + block", "block")]),
    of("swiglu", &[("g * s * up[i]", "s * up[i]")]),
    of("swiglu_backward", &[("(1.0 - s)", "(1.0 + s)")]),
    of("unary", &[("f = v * sigmoid(v)", "f = sigmoid(v)")]),
    of("unary_backward", &[("1.0 - f * f", "1.0 - f")]),
    of("write_rows", &[("= x[i]", "= x[i % p.d]")]),
    // Tiles: a row or column at the edge, the last of the depth, the wrong half.
    product("matmul_naive", Rung::Naive, "", &[("l < depth_end(id.z)", "l + 1u < depth_end(id.z)")]),
    product("matmul_tiled", Rung::Tiled, "", &[("l < 16u", "l < 15u")]),
    product("matmul_register", Rung::RegisterTiled, "", &[("i0 + a_row < p.m", "i0 + a_row + 1u < p.m")]),
    product("matmul_blocked", Rung::Blocked, "", &[("column < p.n && l < end", "column < p.n && l + 1u < end")]),
    product("matmul_blocked", Rung::Blocked, "m=65 n=129", &[("j + 64u, high7", "j + 64u, low7")]),
    product("matmul_blocked", Rung::BlockedDeep, "m=65 n=129", &[("b_tile[bt + 112u]", "b_tile[bt + 96u]")]),
    product("matmul_direct", Rung::Direct, "m=64", &[("b_right * a_low", "b_left * a_low")]),
    product("matmul_direct", Rung::Direct, "NN m=128", &[("min(j, p.n - 4u)", "min(j, p.n - 8u)")]),
    product("matmul_few_rows", Rung::FewRows, "NT", &[("half = SPLIT / 2u", "half = SPLIT / 4u")]),
    product("matmul_few_rows", Rung::FewRows, "", &[("min(i, p.m - 1u), l)", "0u, l)")]),
    // Slices of the depth: one lost, one that runs on into the next, a factor.
    product("matmul_reduce", Rung::RegisterTiled, "k=600", &[("s < p.slices", "s + 1u < p.slices")]),
    product("matmul_reduce", Rung::RegisterTiled, "k=600", &[("= p.alpha * sum", "= sum")]),
    product("matmul_register", Rung::RegisterTiled, "k=600", &[("min(p.k, (slice + 1u) * p.k_step)", "p.k")]),
    product("matmul_few_rows", Rung::FewRows, "k=1025", &[("min(p.k, (slice + 1u) * p.k_step)", "p.k")]),
    // Blocks decoded in the kernel: the wrong block, minimum, fifth bit, half; halves of the wrong type or place.
    product(
        "matmul_register",
        Rung::RegisterTiled,
        "B Q4_0",
        &[("(i >> 5u) * select", "((i >> 5u) & 0xFFFFFFFEu) * select")],
    ),
    product("matmul_register", Rung::RegisterTiled, "B Q4_1", &[("half_at(at + 2u)", "half_at(at)")]),
    product("matmul_blocked", Rung::Blocked, "B Q5_0", &[("& 1u) << 4u", "& 1u) << 3u")]),
    product("matmul_few_rows", Rung::FewRows, "B Q5_1", &[("at + select(2u, 4u, has_min)", "at + 2u")]),
    product("matmul_register", Rung::RegisterTiled, "B Q8_0", &[("bitcast<i32>(byte(at) << 24u) >> 24u", "byte(at)")]),
    product("matmul_few_rows", Rung::FewRows, "B float16", &[("16u * (i & 1u)", "0u")]),
    product("matmul_tiled", Rung::Tiled, "B bfloat16", &[("if TYPE == 1u", "if TYPE <= 2u")]),
    // Matrix units: half of the depth, the wrong matrix, another row's scale, sums in f16, scales too large.
    product("matmul_cooperative", Rung::Cooperative, "B float16", &[("l < DEPTH; l += SIZE", "l < SIZE; l += SIZE")]),
    product("matmul_cooperative", Rung::Cooperative, "B float16", &[("(a1, b1, sum11)", "(a1, b0, sum11)")]),
    product(
        "matmul_cooperative",
        Rung::Cooperative,
        "B float16",
        &[("inverse(row_scale[s / TILE])", "inverse(row_scale[0])")],
    ),
    product("matmul_cooperative", Rung::Cooperative, "NN", &[("j0 + b_column < p.n", "j0 + b_column + 1u < p.n")]),
    product("matmul_cooperative", Rung::Cooperative, "B float16", F16_SUMS),
    product("row_scales", Rung::Cooperative, "B float16", &[("(14u + 127u", "(18u + 127u")]),
];

/// Sums of matrix units in f16: half the registers, and wrong.
const F16_SUMS: &[(&str, &str)] =
    &[("<f32,C>", "<f16,C>"), ("c_tile: array<f32,", "c_tile: array<f16,"), ("c_tile[s] *", "f32(c_tile[s]) *")];

const PRODUCTS: Tolerance = Tolerance { absolute: 1e-5, relative: 1e-4 };

/// The kernel's name in the suite, and its cases.
fn cases_of(kernel: &'static str) -> (&'static str, fn(&mut Suite)) {
    match kernel {
        "adamw" | "sum_rows" | "sum_squares" => (kernel, optimise::cases),
        "adamw_many" => ("adamw", optimise::cases),
        "sum_squares_many" => ("sum_squares", optimise::cases),
        "attention" | "attention_plain" | "attention_tiled" => ("attention", attention::cases),
        pairs if pairs.starts_with("attention_plain_") || pairs.starts_with("attention_tiled_") => {
            ("attention_backward", attention::cases)
        }
        "attention_backward_key" | "attention_backward_query" | "attention_delta" => {
            ("attention_backward", attention::cases)
        }
        "gather_rows" | "scatter_add_rows" | "write_rows" => (kernel, rows::cases),
        "log_probs" | "log_probs_backward" => (kernel, log_probs::cases),
        "add_rms_norm" | "rms_norm" | "rms_norm_backward" | "rope" | "row_norms" | "row_norms_backward" => {
            (kernel, norms::cases)
        }
        "rms_norm_backward_weight" => ("rms_norm_backward", norms::cases),
        "penalise" | "sample" => ("sample", sample::cases),
        "row_scales" => ("matmul", matmul::cases),
        product if product.starts_with("matmul_") => ("matmul", matmul::cases),
        _ => (kernel, elementwise::cases),
    }
}

/// The first case that fails, of those whose names contain `only`; None if all pass.
fn first_failure(fault: &Fault, only: &str, planted: Vec<Plant>) -> Option<Report> {
    let cooperative = fault.rung == Some(Rung::Cooperative);
    // Kernels of one tensor are for devices that show a kernel few buffers.
    let max_bindings = ["adamw", "sum_squares"].contains(&fault.kernel).then_some(8);
    let attention = match fault.kernel {
        plain if plain.starts_with("attention_plain") => AttentionRung::Plain,
        tiled if tiled.starts_with("attention_tiled") => AttentionRung::Tiled,
        _ => AttentionRung::Shared,
    };
    let options = GpuOptions {
        rung: fault.rung,
        attention,
        f16_operands: cooperative,
        checked: true,
        max_bindings,
        planted,
        ..Default::default()
    };
    let gpu = Gpu::open_with(AdapterSelect::Software, options).unwrap();
    let mut suite = Suite::new(&*gpu, if cooperative { Tolerance::FLOAT16 } else { PRODUCTS });
    let (kernel, cases) = cases_of(fault.kernel);
    (suite.first_failure_of, suite.only) = (Some(kernel), only.to_string());
    cases(&mut suite);
    assert!(!suite.reports.is_empty(), "{}: no case of {kernel} contains {only:?}", fault.kernel);
    suite.reports.into_iter().find(|r| !r.passed)
}

#[test]
fn every_kernel_has_a_fault_planted() {
    let planted: BTreeSet<&str> = FAULTS.iter().map(|f| f.kernel).collect();
    let all: BTreeSet<&str> = shaders::ALL.iter().map(|s| s.name).collect();
    assert_eq!(planted, all);
}

/// The fault is flagged by its value, not as an error; without it the case passes.
#[test]
fn every_fault_in_a_kernel_is_flagged() {
    let software: Vec<_> = Gpu::list().into_iter().filter(|d| d.kind == AdapterKind::Software).collect();
    if software.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "no software adapter");
        eprintln!("SKIPPED: no software adapter");
        return;
    }
    let has_matrix_units = software.iter().any(|d| d.features.contains(&"cooperative matrices"));
    let mut wrong = Vec::new();
    for fault in FAULTS.iter().filter(|f| has_matrix_units || f.rung != Some(Rung::Cooperative)) {
        let plant = |&(from, to): &(&'static str, &'static str)| Plant { kernel: fault.kernel, from, to };
        let name = format!("{} {:?}", fault.kernel, fault.changes[0].1);
        match first_failure(fault, fault.only, fault.changes.iter().map(plant).collect()) {
            None => wrong.push(format!("{name} was not flagged")),
            Some(report) if report.detail.contains(" found, ") => {
                let sound = first_failure(fault, &report.name, Vec::new());
                wrong.extend(sound.map(|r| format!("{name}: fails without it too: {r}")));
            }
            Some(report) => wrong.push(format!("{name}: {report}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
