// Of y = silu(g) · u:   du = dy · g·σ(g),   dg = dy · u · σ(g)·(1 + g·(1 − σ(g))).   all [n]
struct Params { n: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> gate: array<f32>;
@group(0) @binding(2) var<storage, read> up: array<f32>;
@group(0) @binding(3) var<storage, read_write> dgate: array<f32>;
@group(0) @binding(4) var<storage, read_write> dup: array<f32>;

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
    dup[i] = dy[i] * g * s;
    dgate[i] = dy[i] * up[i] * s * (1.0 + g * (1.0 - s));
}
