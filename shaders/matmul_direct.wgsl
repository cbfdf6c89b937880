// C[i, j] = α Σ_l op(A)[i, l] · op(B)[l, j] (+ C[i, j]).   C: [m, n]
// LAYOUT 0: A [m, k], B [k, n]; 1: A [m, k], B [n, k]; 2: A [k, m], B [k, n]. Rows lie lda, ldb, ldc elements apart.
// For devices whose every load is slow and whose workgroup memory is no faster (software adapters): a thread computes 8 × 8
// outputs and reads its operands itself, as 4 × 4 matrices: 16 loads for 256 products, no barrier.
// B is f32. Whatever runs along a row of A or B comes in fours: lda, ldb, the offsets, k (layouts 0, 1), n (0, 2), m (2).
// ROWS below 8 is for m ≤ ROWS: the loads and products of the other rows fall away when the kernel is compiled.
const LAYOUT: u32 = 0u;
const ROWS: u32 = 8u;

struct Params {
    m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_offset: u32, b_offset: u32, c_offset: u32,
    alpha: f32, accumulate: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

/// Where row i + r of A starts, in fours; r counts from the thread's first row. Rows beyond the last repeat it.
fn a_row(i: u32, r: u32) -> u32 {
    return min(i + min(r, ROWS - 1u), p.m - 1u) * p.lda / 4u;
}

/// Four of row l of A [k, m] (layout 2), from the four `first`; zeros beyond k.
fn a_four(first: u32, l: u32) -> vec4<f32> {
    return select(vec4<f32>(), a[first + min(l, p.k - 1u) * p.lda / 4u], l < p.k);
}

/// Four of row l of B [k, n], from the four `first`; zeros beyond k.
fn b_four(first: u32, l: u32) -> vec4<f32> {
    return select(vec4<f32>(), b[first + min(l, p.k - 1u) * p.ldb / 4u], l < p.k);
}

/// Where row j of B [n, k] (layout 1) starts, in fours. Rows beyond the last repeat it.
fn b_row(j: u32) -> u32 {
    return min(j, p.n - 1u) * p.ldb / 4u;
}

/// op(A)[i + r .. i + r + 4, l .. l + 4]; a column of the matrix is a row of op(A).
fn load_a(i: u32, r: u32, l: u32) -> mat4x4<f32> {
    if LAYOUT == 2u {
        let first = (p.a_offset + min(i + r, p.m - 4u)) / 4u;
        return transpose(mat4x4<f32>(a_four(first, l), a_four(first, l + 1u), a_four(first, l + 2u), a_four(first, l + 3u)));
    }
    let first = (p.a_offset + l) / 4u;
    return mat4x4<f32>(
        a[first + a_row(i, r)], a[first + a_row(i, r + 1u)], a[first + a_row(i, r + 2u)], a[first + a_row(i, r + 3u)],
    );
}

/// op(B)[l .. l + 4, j .. j + 4]; a column of the matrix is a row of op(B).
fn load_b(l: u32, j: u32) -> mat4x4<f32> {
    if LAYOUT == 1u {
        let first = (p.b_offset + l) / 4u;
        return transpose(mat4x4<f32>(
            b[first + b_row(j)], b[first + b_row(j + 1u)], b[first + b_row(j + 2u)], b[first + b_row(j + 3u)],
        ));
    }
    let first = (p.b_offset + min(j, p.n - 4u)) / 4u;
    return mat4x4<f32>(b_four(first, l), b_four(first, l + 1u), b_four(first, l + 2u), b_four(first, l + 3u));
}

fn store(i: u32, j: u32, sums: vec4<f32>) {
    for (var s = 0u; s < 4u; s++) {
        if i < p.m && j + s < p.n {
            let at = p.c_offset + i * p.ldc + j + s;
            if p.accumulate == 1u {
                c[at] = fma(p.alpha, sums[s], c[at]);
            } else {
                c[at] = p.alpha * sums[s];
            }
        }
    }
}

fn store_block(i: u32, j: u32, sums: mat4x4<f32>) {
    store(i, j, sums[0]);
    store(i + 1u, j, sums[1]);
    store(i + 2u, j, sums[2]);
    store(i + 3u, j, sums[3]);
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * 8u;
    let j = id.x * 8u;
    if i >= p.m || j >= p.n {
        return;
    }
    var top_left = mat4x4<f32>();
    var top_right = mat4x4<f32>();
    var low_left = mat4x4<f32>();
    var low_right = mat4x4<f32>();
    for (var l = 0u; l < p.k; l += 4u) {
        let a_top = load_a(i, 0u, l);
        let a_low = load_a(i, 4u, l);
        let b_left = load_b(l, j);
        let b_right = load_b(l, j + 4u);
        // Columns of these matrices are rows of C, A and B, hence the order of the factors.
        top_left += b_left * a_top;
        top_right += b_right * a_top;
        low_left += b_left * a_low;
        low_right += b_right * a_low;
    }
    store_block(i, j, top_left);
    store_block(i, j + 4u, top_right);
    store_block(i + 4u, j, low_left);
    store_block(i + 4u, j + 4u, low_right);
}
