// y[i] = x[i] · keep_scale where uniform(key, first + i) ≥ p, else 0, i < n.   x, y: [n]
// uniform = the upper 24 bits of Threefry-2x32-20 of the counter (first + i, 0) under the key: threefry.wgsl.
struct Params { n: u32, first: u32, key0: u32, key1: u32, probability: f32, keep_scale: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

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
    let bits = threefry(p.key0, p.key1, vec2<u32>(p.first + i, 0u));
    let uniform_value = f32(bits >> 8u) * 5.9604644775390625e-8;
    y[i] = select(0.0, x[i] * p.keep_scale, uniform_value >= p.probability);
}
