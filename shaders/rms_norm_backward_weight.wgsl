// dw[b, j] = Σ dy[i, j] · x[i, j] · rstd[i] over the rows i of block b, ascending; sum_rows.wgsl adds the blocks.
// dy, x: [m, d], rstd: [m], dw: [⌈m / block⌉, d] from `offset`
struct Params { m: u32, d: u32, block: u32, offset: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> rstd: array<f32>;
@group(0) @binding(3) var<storage, read_write> dw: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let j = group.x * 64u + lane;
    if j >= p.d {
        return;
    }
    let first = group.y * p.block;
    let last = min(first + p.block, p.m);
    var sum = 0.0;
    for (var i = first; i < last; i++) {
        sum = fma(dy[i * p.d + j], x[i * p.d + j] * rstd[i], sum);
    }
    dw[p.offset + group.y * p.d + j] = sum;
}
