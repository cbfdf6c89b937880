// y[i] = silu(gate[i]) · up[i], silu(g) = g · σ(g), i < n.   all [n]
struct Params { n: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> gate: array<f32>;
@group(0) @binding(1) var<storage, read> up: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= p.n {
        return;
    }
    let g = gate[i];
    let e = exp(-abs(g));
    let s = select(1.0, e, g < 0.0) / (1.0 + e);
    y[i] = g * s * up[i];
}
