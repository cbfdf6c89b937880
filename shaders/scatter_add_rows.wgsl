// dtable[distinct[u], j] = Σ dy[sources[s], j] over s in offsets[u] .. offsets[u + 1], ascending.
// One thread owns one output element: no atomics. Only rows in [row_first, row_last), the bound window of dtable; the
// other rows of dtable are zero already.   dy: [n, d], distinct: [u], offsets: [u + 1], sources: [n], dtable: [rows, d]
struct Params { n_distinct: u32, d: u32, row_first: u32, row_last: u32, offset: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> distinct: array<u32>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read> sources: array<u32>;
@group(0) @binding(4) var<storage, read_write> dtable: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= p.n_distinct * p.d {
        return;
    }
    let u = i / p.d;
    let j = i % p.d;
    let row = distinct[u];
    if row < p.row_first || row >= p.row_last {
        return;
    }
    var sum = 0.0;
    for (var s = offsets[u]; s < offsets[u + 1u]; s++) {
        sum += dy[sources[s] * p.d + j];
    }
    dtable[p.offset + (row - p.row_first) * p.d + j] = sum;
}
