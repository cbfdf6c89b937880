// Random numbers as engine/src/random.rs has them: Threefry-2x32 with 20 rounds. J. K. Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011, §4.1. Kernels that draw end with this.

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
