// y[i] = x[i] in another element type, i < n.   x, y: [n]. TYPE is x's, as blocks.wgsl numbers it, which decodes it.
// TO, y's: 0 f32, 1 f16, 2 bf16. To a half: round to nearest even, overflow to infinity, subnormals kept, NaN stays NaN.
const TO: u32 = 0u;

struct Params { n: u32, offset: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

fn word(i: u32) -> u32 {
    return x[i];
}

/// value >> shift, rounded to nearest even.
fn shift_round(value: u32, shift: u32) -> u32 {
    let half = 1u << (shift - 1u);
    let rest = value & ((1u << shift) - 1u);
    let down = value >> shift;
    return down + select(0u, 1u, rest > half || (rest == half && (down & 1u) == 1u));
}

fn f32_to_f16(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    let sign = (bits >> 16u) & 0x8000u;
    let rest = bits & 0x7FFFFFFFu;
    if rest > 0x7F800000u {
        return sign | 0x7E00u;
    }
    if rest >= 0x47800000u {
        return sign | 0x7C00u;
    }
    if rest >= 0x38800000u {
        return sign | shift_round(rest - 0x38000000u, 13u);
    }
    let exponent = rest >> 23u;
    if exponent < 102u {
        return sign;
    }
    return sign | shift_round((rest & 0x7FFFFFu) | 0x800000u, 126u - exponent);
}

fn f32_to_bf16(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    if (bits & 0x7FFFFFFFu) > 0x7F800000u {
        return (bits >> 16u) | 0x40u;
    }
    return shift_round(bits, 16u);
}

fn half_bits(i: u32) -> u32 {
    if i >= p.n {
        return 0u;
    }
    if TO == 1u {
        return f32_to_f16(value(p.offset, i));
    }
    return f32_to_bf16(value(p.offset, i));
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if TO == 0u {
        if i < p.n {
            y[i] = bitcast<u32>(value(p.offset, i));
        }
    } else if 2u * i < p.n {
        y[i] = half_bits(2u * i) | (half_bits(2u * i + 1u) << 16u);
    }
}
