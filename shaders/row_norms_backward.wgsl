// Forward: y[i] = √(Σ_j x[i, j]²). Here dx[i, j] = dy[i] / y[i] · x[i, j], and 0 in rows of zeros, where the norm has a kink.
// x, dx: [m, n], dy, y: [m]; size = m·n.
struct Params { size: u32, n: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= p.size {
        return;
    }
    let row = i / p.n;
    if y[row] == 0.0 {
        dx[i] = 0.0;
    } else {
        dx[i] = dy[row] / y[row] * x[i];
    }
}
