// C[i, j] = α Σ_l op(A)[i, l] · op(B)[l, j] (+ C[i, j]).   C: [m, n]
// LAYOUT 0: A [m, k], B [k, n]; 1: A [m, k], B [n, k]; 2: A [k, m], B [k, n]. Rows lie lda, ldb, ldc elements apart.
// B_TYPE 0: f32, 1: f16, 2: bf16 (two halves share a u32).
// Rung 1, naive: a thread an output. Every operand is read from memory for every product.
const LAYOUT: u32 = 0u;
const B_TYPE: u32 = 0u;

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

@compute @workgroup_size(16, 16)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y;
    let j = id.x;
    if i >= p.m || j >= p.n {
        return;
    }
    var sum = 0.0;
    for (var l = 0u; l < p.k; l++) {
        sum = fma(load_a(i, l), load_b(l, j), sum);
    }
    store(i, j, sum);
}
