// g = grad_scale·grad;   m ← β₁m + (1 − β₁)g;   v ← β₂v + (1 − β₂)g²;
//   θ ← θ·decay − step_size · m / (√v · root_scale + ε)
// Four elements a thread; what lies behind the last element is never read by anyone. adamw_many.wgsl takes several tensors.
// decay = 1 − lr·wd, step_size = lr/(1 − β₁ᵗ), root_scale = 1/√(1 − β₂ᵗ): computed on the host in f64.
struct Params {
    fours: u32, decay: f32, grad_scale: f32, beta1: f32, beta1_rest: f32, beta2: f32, beta2_rest: f32,
    step_size: f32, root_scale: f32, epsilon: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> parameters: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> grad: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= p.fours {
        return;
    }
    let g = p.grad_scale * grad[i];
    let first = p.beta1 * m[i] + p.beta1_rest * g;
    let second = p.beta2 * v[i] + p.beta2_rest * g * g;
    m[i] = first;
    v[i] = second;
    parameters[i] = parameters[i] * p.decay - p.step_size * first / (sqrt(second) * p.root_scale + p.epsilon);
}
