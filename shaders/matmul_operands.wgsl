// What the products share: how A and B are read, whatever the layout and the type of B, and how C is written.
// C[i, j] = α Σ_l op(A)[i, l] · op(B)[l, j] (+ C[i, j]).   C: [m, n]
// LAYOUT 0: A [m, k], B [k, n]; 1: A [m, k], B [n, k]; 2: A [k, m], B [k, n]. Rows lie lda, ldb, ldc elements apart.
// B_TYPE 0 f32, 1 f16, 2 bf16 (two halves share a u32), 3 Q4_0, 4 Q4_1, 5 Q5_0, 6 Q5_1, 7 Q8_0 (blocks of 32 weights; B's
// rows are whole blocks, and the first starts at byte b_byte of what is bound).
// Depth may be cut into slices, one for each layer of workgroups along z: slice z sums l from z · k_step on, and writes a
// matrix of its own behind the others; matmul_reduce adds them in ascending order.
const LAYOUT: u32 = 0u;
const B_TYPE: u32 = 0u;

struct Params {
    m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_offset: u32, b_offset: u32, c_offset: u32,
    alpha: f32, accumulate: u32, b_byte: u32, k_step: u32,
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

fn byte(at: u32) -> u32 {
    return (b[at >> 2u] >> (8u * (at & 3u))) & 255u;
}

fn half_at(at: u32) -> f32 {
    return f16_to_f32(byte(at) | (byte(at + 1u) << 8u));
}

/// Weight i of a block of 32 at byte `at`; the formats are told in engine/src/quant.rs.
fn decode(at: u32, i: u32) -> f32 {
    let d = half_at(at);
    if B_TYPE == 7u {
        return d * f32(bitcast<i32>(byte(at + 2u + i) << 24u) >> 24u);
    }
    // d, perhaps m, perhaps 32 fifth bits, then nibbles: low ones are weights 0..16, high ones 16..32.
    let has_min = B_TYPE == 4u || B_TYPE == 6u;
    let has_fifth = B_TYPE >= 5u;
    let fifths = at + select(2u, 4u, has_min);
    let nibbles = fifths + select(0u, 4u, has_fifth);
    var q = (byte(nibbles + (i & 15u)) >> (4u * (i >> 4u))) & 15u;
    if has_fifth {
        q |= ((byte(fifths + (i >> 3u)) >> (i & 7u)) & 1u) << 4u;
    }
    if has_min {
        return d * f32(q) + half_at(at + 2u);
    }
    return d * (f32(q) - select(8.0, 16.0, has_fifth));
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
    if B_TYPE >= 3u {
        return decode(p.b_byte + (i >> 5u) * select(12u + 2u * B_TYPE, 34u, B_TYPE == 7u), i & 31u);
    }
    let half = (b[i >> 1u] >> (16u * (i & 1u))) & 0xFFFFu;
    if B_TYPE == 1u {
        return f16_to_f32(half);
    }
    return bitcast<f32>(half << 16u);
}

/// The sum of slice `slice` for C[i, j].
fn store(slice: u32, i: u32, j: u32, sum: f32) {
    let at = p.c_offset + (slice * p.m + i) * p.ldc + j;
    if p.accumulate == 1u {
        c[at] = fma(p.alpha, sum, c[at]);
    } else {
        c[at] = p.alpha * sum;
    }
}

/// Where slice `slice` of the depth ends.
fn depth_end(slice: u32) -> u32 {
    return min(p.k, (slice + 1u) * p.k_step);
}
