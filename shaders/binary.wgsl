// y[i] = f(a[i], b[(first + i) mod n_b]), i < n.   a, y: [n], b: [n_b]. OP picks f.
const OP: u32 = 0u;

struct Params { n: u32, n_b: u32, first: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

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
    let u = a[i];
    let v = b[(p.first + i) % p.n_b];
    var f = 0.0;
    switch OP {
        case 0u: { f = u + v; }
        case 1u: { f = u - v; }
        case 2u: { f = u * v; }
        case 3u: { f = u / v; }
        case 4u: { f = min(u, v); }
        default: { f = max(u, v); }
    }
    y[i] = f;
}
