// y[i] = x[i] · keep_scale where uniform(key, first + i) ≥ p, else 0, i < n.   x, y: [n]
// uniform = the upper 24 bits of Threefry-2x32-20 of the counter (first + i, 0) under the key: engine/src/random.rs.
struct Params { n: u32, first: u32, key0: u32, key1: u32, probability: f32, keep_scale: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

/// Four rounds, each x0 += x1; x1 = rotate(x1, r) ^ x0.
fn rounds(state: vec2<u32>, rotations: vec4<u32>) -> vec2<u32> {
    var s = state;
    for (var r = 0u; r < 4u; r++) {
        s.x += s.y;
        s.y = ((s.y << rotations[r]) | (s.y >> (32u - rotations[r]))) ^ s.x;
    }
    return s;
}

/// First word of Threefry-2x32 with 20 rounds.
fn threefry(k0: u32, k1: u32, counter: vec2<u32>) -> u32 {
    let k2 = 0x1BD11BDAu ^ k0 ^ k1;
    let even = vec4<u32>(13u, 15u, 26u, 6u);
    let odd = vec4<u32>(17u, 29u, 16u, 24u);
    var s = counter + vec2<u32>(k0, k1);
    s = rounds(s, even) + vec2<u32>(k1, k2 + 1u);
    s = rounds(s, odd) + vec2<u32>(k2, k0 + 2u);
    s = rounds(s, even) + vec2<u32>(k0, k1 + 3u);
    s = rounds(s, odd) + vec2<u32>(k1, k2 + 4u);
    s = rounds(s, even) + vec2<u32>(k2, k0 + 5u);
    return s.x;
}

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
