// sum_squares.wgsl, the same sums in the same order, for up to fifteen tensors in one dispatch: partial[first_block + b] is that of
// block b of all tensors' blocks of 4096 elements, one tensor after the other.   x_s: [n_s], 0 elements where the slot is empty
struct Params {
    n0: u32, n1: u32, n2: u32, n3: u32, n4: u32, n5: u32, n6: u32, n7: u32,
    n8: u32, n9: u32, n10: u32, n11: u32, n12: u32, n13: u32, n14: u32,
    first_block: u32, n_blocks: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x0: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> x1: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x2: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> x3: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> x4: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> x5: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> x6: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> x7: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> x8: array<vec4<f32>>;
@group(0) @binding(9) var<storage, read> x9: array<vec4<f32>>;
@group(0) @binding(10) var<storage, read> x10: array<vec4<f32>>;
@group(0) @binding(11) var<storage, read> x11: array<vec4<f32>>;
@group(0) @binding(12) var<storage, read> x12: array<vec4<f32>>;
@group(0) @binding(13) var<storage, read> x13: array<vec4<f32>>;
@group(0) @binding(14) var<storage, read> x14: array<vec4<f32>>;
@group(0) @binding(15) var<storage, read_write> partials: array<f32>;

var<workgroup> sums: array<f32, 64>;

/// Four i of the tensor in a slot.
fn load(slot: u32, i: u32) -> vec4<f32> {
    switch slot {
        case 0u: { return x0[i]; }
        case 1u: { return x1[i]; }
        case 2u: { return x2[i]; }
        case 3u: { return x3[i]; }
        case 4u: { return x4[i]; }
        case 5u: { return x5[i]; }
        case 6u: { return x6[i]; }
        case 7u: { return x7[i]; }
        case 8u: { return x8[i]; }
        case 9u: { return x9[i]; }
        case 10u: { return x10[i]; }
        case 11u: { return x11[i]; }
        case 12u: { return x12[i]; }
        case 13u: { return x13[i]; }
        default: { return x14[i]; }
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var block = group.y * groups.x + group.x;
    let to = p.first_block + block;
    if block >= p.n_blocks {
        return;
    }
    var sizes = array<u32, 15>(
        p.n0, p.n1, p.n2, p.n3, p.n4, p.n5, p.n6, p.n7, p.n8, p.n9, p.n10, p.n11, p.n12, p.n13, p.n14,
    );
    // The tensor that the block belongs to, and which of its blocks it is.
    var slot = 0u;
    for (; block >= (sizes[slot] + 4095u) / 4096u; slot++) {
        block -= (sizes[slot] + 4095u) / 4096u;
    }
    let n = sizes[slot];
    let last = min((block + 1u) * 1024u, (n + 3u) / 4u);
    var sum = vec4<f32>();
    for (var i = block * 1024u + lane; i < last; i += 64u) {
        let exists = vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(n);
        let four = select(vec4<f32>(), load(slot, i), exists);
        sum = fma(four, four, sum);
    }
    sums[lane] = (sum.x + sum.y) + (sum.z + sum.w);
    workgroupBarrier();
    for (var half = 32u; half > 0u; half >>= 1u) {
        if lane < half {
            sums[lane] += sums[lane + half];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        partials[to] = sums[0];
    }
}
