// y[b, j] = Σ x[i, j] over the rows i of block b, ascending.   x: [m, n], y: [⌈m / block⌉, n] from `offset`
// Run again on the blocks' sums until one row is left, it is the sum over rows in a fixed order.
struct Params { m: u32, n: u32, block: u32, offset: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let j = group.x * 64u + lane;
    if j >= p.n {
        return;
    }
    let first = group.y * p.block;
    let last = min(first + p.block, p.m);
    var sum = 0.0;
    for (var i = first; i < last; i++) {
        sum += x[i * p.n + j];
    }
    y[p.offset + group.y * p.n + j] = sum;
}
