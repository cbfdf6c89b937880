// Rotary position embedding over the first `rotary` entries of each head, pairs (j, j + rotary/2):
//   y[j] = x[j]·cos θ − x[j + r/2]·sin θ,   y[j + r/2] = x[j + r/2]·cos θ + x[j]·sin θ,   θ = angle(position, j).
// x, y: [t, heads, e]; cos_sin: [positions, rotary], cosines then sines; positions: [t]. direction −1 turns back.
struct Params { n: u32, heads: u32, e: u32, rotary: u32, direction: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> cos_sin: array<f32>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

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
    let j = i % p.e;
    if j >= p.rotary {
        y[i] = x[i];
        return;
    }
    let half = p.rotary / 2u;
    let angle = positions[i / (p.e * p.heads)] * p.rotary + j % half;
    let c = cos_sin[angle];
    let s = cos_sin[angle + half] * p.direction;
    if j < half {
        y[i] = x[i] * c - x[i + half] * s;
    } else {
        y[i] = x[i] * c + x[i - half] * s;
    }
}
