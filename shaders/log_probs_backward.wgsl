// logits[i, j] ← scale · dlogp[i] · ([j = target[i]] − e^(logits[i, j] − lse[i])), in place.
// logits: [m, v] from `offset`, targets, lse, dlogp: [rows] from `first_row`.
struct Params { m: u32, v: u32, first_row: u32, offset: u32, scale: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> log_sum_exp: array<f32>;
@group(0) @binding(3) var<storage, read> dlogp: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= p.m * p.v {
        return;
    }
    let row = p.first_row + i / p.v;
    let hit = select(0.0, 1.0, i % p.v == targets[row]);
    let probability = exp(logits[p.offset + i] - log_sum_exp[row]);
    logits[p.offset + i] = p.scale * dlogp[row] * (hit - probability);
}
