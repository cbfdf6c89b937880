// What the products share: how A and B are read, whatever the layout and the type of B, and how C is written.
// C[i, j] = α Σ_l op(A)[i, l] · op(B)[l, j] (+ C[i, j]).   C: [m, n]
// LAYOUT 0: A [m, k], B [k, n]; 1: A [m, k], B [n, k]; 2: A [k, m], B [k, n]. Rows lie lda, ldb, ldc elements apart.
// TYPE is B's, as blocks.wgsl numbers it, which decodes it; where it is quantised, B's rows are whole blocks, and the first
// starts at byte b_byte of what is bound (else b_byte is 0).
// Depth may be cut into slices, one for each layer of workgroups along z: slice z sums l from z · k_step on, and writes a
// matrix of its own behind the others; matmul_reduce adds them in ascending order.
const LAYOUT: u32 = 0u;

struct Params {
    m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_offset: u32, b_offset: u32, c_offset: u32,
    alpha: f32, accumulate: u32, b_byte: u32, k_step: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<u32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

fn word(i: u32) -> u32 {
    return b[i];
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
    return value(p.b_byte, i);
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
