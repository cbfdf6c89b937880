// scale[i] = 2^(14 − ⌊log₂ max_l |a[i, l]|⌋): the power of two that brings the largest of row i into [2¹⁴, 2¹⁵), so that
// f16 (largest number 65504, smallest normal one 2⁻¹⁴) holds all of the row that matters.   a: [m, k], rows lda apart; scale: [m]
// NaN where the row holds a number that is not finite: its products are then not finite either. At most 2¹²⁶, so that 1 / scale
// is a normal number. A workgroup a row; the largest of numbers does not depend on the order in which they are looked at.
struct Params { m: u32, k: u32, lda: u32, a_offset: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> scale: array<f32>;

// |a| as bits: they compare as the numbers do, and those of infinity and NaN are the largest.
var<workgroup> largest: array<u32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.m {
        return;
    }
    let first = p.a_offset + row * p.lda;
    var most = 0u;
    for (var l = lane; l < p.k; l += 64u) {
        most = max(most, bitcast<u32>(a[first + l]) & 0x7FFFFFFFu);
    }
    largest[lane] = most;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half >>= 1u) {
        if lane < half {
            largest[lane] = max(largest[lane], largest[lane + half]);
        }
        workgroupBarrier();
    }
    if lane == 0u {
        // 2^e has the exponent bits e + 127.
        let exponent = largest[0] >> 23u;
        var bits = (14u + 127u + 127u - max(exponent, 15u)) << 23u;
        if exponent == 255u {
            bits = 0x7FC00000u;
        }
        scale[row] = bitcast<f32>(bits);
    }
}
