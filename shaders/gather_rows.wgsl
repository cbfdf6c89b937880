// y[i, j] = x[rows[i], j] for the rows[i] in [row_first, row_last), the rows that the bound window of the table x holds.
// x: [rows, d], y: [n, d] f32. TYPE is x's, as blocks.wgsl numbers it, which
// decodes it.

struct Params { n: u32, d: u32, row_first: u32, row_last: u32, offset: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

fn word(i: u32) -> u32 {
    return x[i];
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= p.n * p.d {
        return;
    }
    let row = rows[i / p.d];
    if row >= p.row_first && row < p.row_last {
        y[i] = value(p.offset, (row - p.row_first) * p.d + i % p.d);
    }
}
