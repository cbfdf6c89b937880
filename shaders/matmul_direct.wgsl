// C[i, j] = α Σ_l op(A)[i, l] · op(B)[l, j] (+ C[i, j]).   C: [m, n]
// LAYOUT 0: A [m, k], B [k, n]; 1: A [m, k], B [n, k]; 2: A [k, m], B [k, n]. Rows lie lda, ldb, ldc elements apart.
// For devices whose every load is slow and whose workgroup memory is no faster (software adapters): a thread computes 8 × 8
// outputs and reads its operands itself, four at a time: 16 loads of a vec4 for 256 products, no barrier.
// B is f32. Whatever runs along a row of A or B comes in fours: lda, ldb, the offsets, k (layouts 0, 1), n (0, 2), m (2).
const LAYOUT: u32 = 0u;

struct Params {
    m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_offset: u32, b_offset: u32, c_offset: u32,
    alpha: f32, accumulate: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

/// Adds the products of eight rows (column `l` of each of their fours) and eight columns.
fn outer(acc: ptr<function, array<vec4<f32>, 16>>, rows: array<f32, 8>, left: vec4<f32>, right: vec4<f32>) {
    for (var i = 0u; i < 8u; i++) {
        (*acc)[2u * i] = fma(vec4<f32>(rows[i]), left, (*acc)[2u * i]);
        (*acc)[2u * i + 1u] = fma(vec4<f32>(rows[i]), right, (*acc)[2u * i + 1u]);
    }
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i0 = id.y * 8u;
    let j0 = id.x * 8u;
    if i0 >= p.m || j0 >= p.n {
        return;
    }
    var acc: array<vec4<f32>, 16>;
    for (var i = 0u; i < 16u; i++) {
        acc[i] = vec4<f32>();
    }
    // In fours: where the eight rows of A and of B (layout 1) start; rows beyond the last read the last.
    var a_row: array<u32, 8>;
    var b_row: array<u32, 8>;
    for (var i = 0u; i < 8u; i++) {
        a_row[i] = (p.a_offset + min(i0 + i, p.m - 1u) * p.lda) / 4u;
        b_row[i] = (p.b_offset + min(j0 + i, p.n - 1u) * p.ldb) / 4u;
    }
    let a_last = (p.m - 1u) / 4u;
    let b_last = (p.n - 1u) / 4u;
    let b_left = p.b_offset / 4u + min(j0 / 4u, b_last);
    let b_right = p.b_offset / 4u + min(j0 / 4u + 1u, b_last);
    if LAYOUT == 2u {
        let a_left = p.a_offset / 4u + min(i0 / 4u, a_last);
        let a_right = p.a_offset / 4u + min(i0 / 4u + 1u, a_last);
        for (var l = 0u; l < p.k; l++) {
            let top = a[a_left + l * p.lda / 4u];
            let low = a[a_right + l * p.lda / 4u];
            let rows = array<f32, 8>(top.x, top.y, top.z, top.w, low.x, low.y, low.z, low.w);
            outer(&acc, rows, b[b_left + l * p.ldb / 4u], b[b_right + l * p.ldb / 4u]);
        }
    } else {
        for (var l = 0u; l < p.k / 4u; l++) {
            var av: array<vec4<f32>, 8>;
            var bv: array<vec4<f32>, 8>; // [l][half] in layout 0, [column] of four l in layout 1
            for (var i = 0u; i < 8u; i++) {
                av[i] = a[a_row[i] + l];
            }
            if LAYOUT == 1u {
                for (var i = 0u; i < 8u; i++) {
                    bv[i] = b[b_row[i] + l];
                }
            } else {
                for (var i = 0u; i < 4u; i++) {
                    bv[2u * i] = b[b_left + (l * 4u + i) * p.ldb / 4u];
                    bv[2u * i + 1u] = b[b_right + (l * 4u + i) * p.ldb / 4u];
                }
            }
            for (var x = 0u; x < 4u; x++) {
                let rows = array<f32, 8>(av[0][x], av[1][x], av[2][x], av[3][x], av[4][x], av[5][x], av[6][x], av[7][x]);
                if LAYOUT == 1u {
                    let left = vec4<f32>(bv[0][x], bv[1][x], bv[2][x], bv[3][x]);
                    outer(&acc, rows, left, vec4<f32>(bv[4][x], bv[5][x], bv[6][x], bv[7][x]));
                } else {
                    outer(&acc, rows, bv[2u * x], bv[2u * x + 1u]);
                }
            }
        }
    }
    for (var i = 0u; i < 8u; i++) {
        for (var j = 0u; j < 8u; j++) {
            if i0 + i < p.m && j0 + j < p.n {
                let at = p.c_offset + (i0 + i) * p.ldc + j0 + j;
                let sum = acc[2u * i + j / 4u][j % 4u];
                if p.accumulate == 1u {
                    c[at] = fma(p.alpha, sum, c[at]);
                } else {
                    c[at] = p.alpha * sum;
                }
            }
        }
    }
}
