// C[i, j] = α Σ_l op(A)[i, l] · op(B)[l, j] (+ C[i, j]).   C: [m, n], m ≤ ROWS
// LAYOUT 0: A [m, k], B [k, n]; 1: A [m, k], B [n, k]; 2: A [k, m], B [k, n]. Rows lie lda, ldb, ldc elements apart.
// B_TYPE 0: f32, 1: f16, 2: bf16 (two halves share a u32).
// For few rows (decoding, LoRA's small sides): a value of B is read once and used for all rows of A. SPLIT threads share a
// column, each takes every SPLIT-th l, and a tree adds their sums: 16 where B's rows run along l (layout 1), else 1.
const LAYOUT: u32 = 0u;
const B_TYPE: u32 = 0u;
const ROWS: u32 = 8u;
const SPLIT: u32 = 1u;

struct Params {
    m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_offset: u32, b_offset: u32, c_offset: u32,
    alpha: f32, accumulate: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<u32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

fn f16_to_f32(h: u32) -> f32 {
    let sign = (h & 0x8000u) << 16u;
    let exponent = (h >> 10u) & 31u;
    let mantissa = h & 0x3FFu;
    if exponent == 0u {
        return bitcast<f32>(bitcast<u32>(f32(mantissa) * 5.9604644775390625e-8) | sign);
    }
    let biased = select(exponent + 112u, 255u, exponent == 31u);
    return bitcast<f32>(sign | (biased << 23u) | (mantissa << 13u));
}

/// op(A)[i, l]
fn load_a(i: u32, l: u32) -> f32 {
    if LAYOUT == 2u {
        return a[p.a_offset + l * p.lda + i];
    }
    return a[p.a_offset + i * p.lda + l];
}

/// op(B)[l, j], decoded.
fn load_b(l: u32, j: u32) -> f32 {
    let i = p.b_offset + select(l * p.ldb + j, j * p.ldb + l, LAYOUT == 1u);
    if B_TYPE == 0u {
        return bitcast<f32>(b[i]);
    }
    let half = (b[i >> 1u] >> (16u * (i & 1u))) & 0xFFFFu;
    if B_TYPE == 1u {
        return f16_to_f32(half);
    }
    return bitcast<f32>(half << 16u);
}

fn store(i: u32, j: u32, sum: f32) {
    let at = p.c_offset + i * p.ldc + j;
    if p.accumulate == 1u {
        c[at] = fma(p.alpha, sum, c[at]);
    } else {
        c[at] = p.alpha * sum;
    }
}

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let j = (group.y * groups.x + group.x) * (64u / SPLIT) + lane / SPLIT;
    let part = lane % SPLIT;
    var sum: array<f32, ROWS>;
    for (var i = 0u; i < ROWS; i++) {
        sum[i] = 0.0;
    }
    if j < p.n {
        for (var l = part; l < p.k; l += SPLIT) {
            let bv = load_b(l, j);
            for (var i = 0u; i < ROWS; i++) {
                sum[i] = fma(load_a(min(i, p.m - 1u), l), bv, sum[i]);
            }
        }
    }
    for (var i = 0u; i < ROWS; i++) {
        if SPLIT > 1u {
            sums[lane] = sum[i];
            workgroupBarrier();
            for (var half = SPLIT / 2u; half > 0u; half >>= 1u) {
                if part < half {
                    sums[lane] += sums[lane + half];
                }
                workgroupBarrier();
            }
            sum[i] = sums[lane];
            workgroupBarrier();
        }
        if part == 0u && i < p.m && j < p.n {
            store(i, j, sum[i]);
        }
    }
}
