// x[e] ← x[e] / penalty where x[e] > 0, else x[e] · penalty, for the elements e of a list, each in it once.
// x: the elements from `start` on, at `offset`; elements: those from `first` on, [n]. A thread an element of the list.
struct Params { n: u32, first: u32, start: u32, offset: u32, penalty: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> elements: array<u32>;

/// a / b of positive numbers, rounded to the nearest as on the CPU: WGSL's own may be 2.5 units in the last place away.
fn quotient(a: f32, b: f32) -> f32 {
    let a_bits = bitcast<u32>(a);
    let b_bits = bitcast<u32>(b);
    var exponent = i32(a_bits >> 23u) - i32(b_bits >> 23u) + 127;
    var rest = (a_bits & 0x7FFFFFu) | 0x800000u;
    let divisor = (b_bits & 0x7FFFFFu) | 0x800000u;
    if rest < divisor {
        rest <<= 1u;
        exponent -= 1;
    }
    // Long division: 24 bits of the quotient, of which the first is 1.
    var digits = 0u;
    for (var i = 0u; i < 24u; i++) {
        let fits = rest >= divisor;
        digits = (digits << 1u) | select(0u, 1u, fits);
        rest = (rest - select(0u, divisor, fits)) << 1u;
    }
    // `rest` is twice the remainder: nearest, and to even where it is half a digit.
    if rest > divisor || (rest == divisor && (digits & 1u) == 1u) {
        digits += 1u;
    }
    let normal = (a_bits >> 23u) > 0u && (a_bits >> 23u) < 255u && (b_bits >> 23u) > 0u && exponent > 0 && exponent < 254;
    // The first bit of `digits` is the last of the exponent, so that a carry out of 24 bits goes there.
    return select(a / b, bitcast<f32>((u32(exponent - 1) << 23u) + digits), normal);
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
    let at = p.offset + elements[p.first + i] - p.start;
    let z = x[at];
    if z > 0.0 {
        x[at] = quotient(z, p.penalty);
    } else {
        x[at] = z * p.penalty;
    }
}
