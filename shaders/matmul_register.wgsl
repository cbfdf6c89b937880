// C[i, j] = α Σ_l op(A)[i, l] · op(B)[l, j] (+ C[i, j]).   C: [m, n]
// LAYOUT 0: A [m, k], B [k, n]; 1: A [m, k], B [n, k]; 2: A [k, m], B [k, n]. Rows lie lda, ldb, ldc elements apart.
// B_TYPE 0: f32, 1: f16, 2: bf16 (two halves share a u32).
// Rung 3, register-tiled: a thread computes 4 × 4 outputs in registers, a workgroup of 256 threads 64 × 64. Four values of
// A and four of B read from workgroup memory serve sixteen products.
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

const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
const STRIDE: u32 = 65u;
// [l][row of C] and [l][column of C], rows STRIDE apart.
var<workgroup> a_tile: array<f32, 1040>;
var<workgroup> b_tile: array<f32, 1040>;

fn store_row(i: u32, j: u32, sums: vec4<f32>) {
    if i >= p.m {
        return;
    }
    for (var s = 0u; s < 4u; s++) {
        if j + 16u * s < p.n {
            store(i, j + 16u * s, sums[s]);
        }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i0 = group.y * TILE;
    let j0 = group.x * TILE;
    // This thread's outputs: rows 4·(lane / 16) …+3, columns lane % 16 + 0, 16, 32, 48.
    let row = (lane / 16u) * 4u;
    let column = lane % 16u;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var l0 = 0u; l0 < p.k; l0 += DEPTH) {
        for (var s = lane; s < TILE * DEPTH; s += 256u) {
            // Neighbouring threads read neighbouring addresses, whatever the layout.
            let a_row = select(s / DEPTH, s % TILE, LAYOUT == 2u);
            let a_l = select(s % DEPTH, s / TILE, LAYOUT == 2u);
            let b_column = select(s % TILE, s / DEPTH, LAYOUT == 1u);
            let b_l = select(s / TILE, s % DEPTH, LAYOUT == 1u);
            var av = 0.0;
            var bv = 0.0;
            if i0 + a_row < p.m && l0 + a_l < p.k {
                av = load_a(i0 + a_row, l0 + a_l);
            }
            if j0 + b_column < p.n && l0 + b_l < p.k {
                bv = load_b(l0 + b_l, j0 + b_column);
            }
            a_tile[a_l * STRIDE + a_row] = av;
            b_tile[b_l * STRIDE + b_column] = bv;
        }
        workgroupBarrier();
        for (var l = 0u; l < DEPTH; l++) {
            let at = l * STRIDE + row;
            let bt = l * STRIDE + column;
            let bv = vec4<f32>(b_tile[bt], b_tile[bt + 16u], b_tile[bt + 32u], b_tile[bt + 48u]);
            sum0 = fma(vec4<f32>(a_tile[at]), bv, sum0);
            sum1 = fma(vec4<f32>(a_tile[at + 1u]), bv, sum1);
            sum2 = fma(vec4<f32>(a_tile[at + 2u]), bv, sum2);
            sum3 = fma(vec4<f32>(a_tile[at + 3u]), bv, sum3);
        }
        workgroupBarrier();
    }
    store_row(i0 + row, j0 + column, sum0);
    store_row(i0 + row + 1u, j0 + column, sum1);
    store_row(i0 + row + 2u, j0 + column, sum2);
    store_row(i0 + row + 3u, j0 + column, sum3);
}
