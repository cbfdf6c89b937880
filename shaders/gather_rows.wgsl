// y[i, j] = table[rows[i], j] for the rows[i] in [row_first, row_last), the rows that the bound window of the table holds.
// table: [rows, d] of TYPE (0 f32, 1 f16, 2 bf16; two halves share a u32), y: [n, d] f32.
const TYPE: u32 = 0u;

struct Params { n: u32, d: u32, row_first: u32, row_last: u32, offset: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> table: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

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

fn value(i: u32) -> f32 {
    if TYPE == 0u {
        return bitcast<f32>(table[i]);
    }
    let half = (table[i >> 1u] >> (16u * (i & 1u))) & 0xFFFFu;
    if TYPE == 1u {
        return f16_to_f32(half);
    }
    return bitcast<f32>(half << 16u);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= p.n * p.d {
        return;
    }
    let row = rows[i / p.d];
    if row >= p.row_first && row < p.row_last {
        y[i] = value(p.offset + (row - p.row_first) * p.d + i % p.d);
    }
}
