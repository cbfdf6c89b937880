// How an element of any type is decoded to f32: what cast, gather_rows and the products share. Whoever is joined with this file
// says which words it reads: fn word(i: u32) -> u32.
// TYPE: 0 f32, 1 f16, 2 bf16 (two halves share a word), and quantised blocks as in a file, byte after byte: of 32 elements
// 3 Q4_0, 4 Q4_1, 5 Q5_0, 6 Q5_1, 7 Q8_0, of 256 elements 8 Q4_K, 9 Q5_K, 10 Q6_K.
// Q4_0, worked: the 18 bytes 00 38 | 21 43 … have d = 0.5 (0x3800), so weight 0 is 0.5 · (1 − 8) = −3.5 (low nibble of 0x21),
// weight 16 is 0.5 · (2 − 8) = −3 (its high nibble), weight 1 is 0.5 · (3 − 8) = −2.5.
const TYPE: u32 = 0u;

fn f16_to_f32(h: u32) -> f32 {
    let sign = (h & 0x8000u) << 16u;
    let exponent = (h >> 10u) & 31u;
    let mantissa = h & 0x3FFu;
    if exponent == 0u {
        return bitcast<f32>(bitcast<u32>(f32(mantissa) * 5.9604644775390625e-8) | sign);
    }
    let biased = select(exponent + 112u, 255u, exponent == 31u);
    return bitcast<f32>(sign | (biased << 23u) | (mantissa << 13u));
}

fn byte(at: u32) -> u32 {
    return (word(at >> 2u) >> (8u * (at & 3u))) & 255u;
}

fn signed_byte(at: u32) -> f32 {
    return f32(bitcast<i32>(byte(at) << 24u) >> 24u);
}

fn half_at(at: u32) -> f32 {
    return f16_to_f32(byte(at) | (byte(at + 1u) << 8u));
}

/// Weight i of a block of 32 at byte `at`; the formats are told in engine/src/quant.rs.
fn decode_32(at: u32, i: u32) -> f32 {
    let d = half_at(at);
    if TYPE == 7u {
        return d * signed_byte(at + 2u + i);
    }
    // Q4_0, Q4_1, Q5_0, Q5_1: d, perhaps m, perhaps 32 fifth bits, then nibbles: low 0..16, high 16..32.
    let has_min = TYPE == 4u || TYPE == 6u;
    let has_fifth = TYPE >= 5u;
    let fifths = at + select(2u, 4u, has_min);
    let nibbles = fifths + select(0u, 4u, has_fifth);
    var q = (byte(nibbles + (i & 15u)) >> (4u * (i >> 4u))) & 15u;
    if has_fifth {
        q |= ((byte(fifths + (i >> 3u)) >> (i & 7u)) & 1u) << 4u;
    }
    if has_min {
        return d * f32(q) + half_at(at + 2u);
    }
    return d * (f32(q) - select(8.0, 16.0, has_fifth));
}

/// Weight i of a Q4_K or Q5_K block of 256 at byte `at`.
fn decode_k(at: u32, i: u32) -> f32 {
    let group = i >> 5u;
    let scales = at + 4u;
    var scale = byte(scales + group);
    var low = byte(scales + group + 4u);
    if group < 4u {
        scale &= 63u;
        low &= 63u;
    } else {
        let nibbles = low;
        low = (nibbles >> 4u) | ((scale >> 6u) << 4u);
        scale = (nibbles & 15u) | ((byte(scales + group - 4u) >> 6u) << 4u);
    }
    let nibbles = at + select(16u, 48u, TYPE == 9u);
    var q = (byte(nibbles + 32u * (group >> 1u) + (i & 31u)) >> (4u * (group & 1u))) & 15u;
    if TYPE == 9u {
        q |= ((byte(at + 16u + (i & 31u)) >> group) & 1u) << 4u;
    }
    return half_at(at) * f32(scale) * f32(q) - half_at(at + 2u) * f32(low);
}

/// Weight i of a Q6_K block of 256 at byte `at`.
fn decode_q6_k(at: u32, i: u32) -> f32 {
    let part = i >> 7u;
    let group = (i >> 5u) & 3u;
    let nibble = (byte(at + 64u * part + 32u * (group & 1u) + (i & 31u)) >> (4u * (group >> 1u))) & 15u;
    let high = (byte(at + 128u + 32u * part + (i & 31u)) >> (2u * group)) & 3u;
    let scale = half_at(at + 208u) * signed_byte(at + 192u + 8u * part + 2u * group + ((i & 31u) >> 4u));
    return scale * (f32(nibble | (high << 4u)) - 32.0);
}

/// Element i of what begins at byte `first` where it is quantised, else at element `first`.
fn value(first: u32, i: u32) -> f32 {
    switch TYPE {
        case 0u: { return bitcast<f32>(word(first + i)); }
        case 1u, 2u: { return half_element(first + i); }
        case 8u: { return decode_k(first + (i >> 8u) * 144u, i & 255u); }
        case 9u: { return decode_k(first + (i >> 8u) * 176u, i & 255u); }
        case 10u: { return decode_q6_k(first + (i >> 8u) * 210u, i & 255u); }
        default: { return decode_32(first + (i >> 5u) * select(12u + 2u * TYPE, 34u, TYPE == 7u), i & 31u); }
    }
}

/// Element i of halves, two of which share a word.
fn half_element(i: u32) -> f32 {
    let half = (word(i >> 1u) >> (16u * (i & 1u))) & 0xFFFFu;
    if TYPE == 1u {
        return f16_to_f32(half);
    }
    return bitcast<f32>(half << 16u);
}
