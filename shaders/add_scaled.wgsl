// y[i] ← y[i] + α·x[i], i < n, in place.   x, y: [n]
// Four elements a thread; what lies behind the last element is never read by anyone.
struct Params { n: u32, alpha: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i * 4u >= p.n {
        return;
    }
    y[i] = fma(vec4<f32>(p.alpha), x[i], y[i]);
}
