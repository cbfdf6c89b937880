// adamw.wgsl, the same equations, for up to seven tensors in one dispatch: a thread's four elements are the i-th four of all
// tensors one after the other. Tensor s has `fours_s` fours, 0 where the slot is empty, and a `decay_s` = 1 − lr·wd of its own.
struct Params {
    fours0: u32, fours1: u32, fours2: u32, fours3: u32, fours4: u32, fours5: u32, fours6: u32,
    decay0: f32, decay1: f32, decay2: f32, decay3: f32, decay4: f32, decay5: f32, decay6: f32,
    grad_scale: f32, beta1: f32, beta1_rest: f32, beta2: f32, beta2_rest: f32,
    step_size: f32, root_scale: f32, epsilon: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> parameters0: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> m0: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> v0: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> grad0: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> parameters1: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> m1: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> v1: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> grad1: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> parameters2: array<vec4<f32>>;
@group(0) @binding(9) var<storage, read_write> m2: array<vec4<f32>>;
@group(0) @binding(10) var<storage, read_write> v2: array<vec4<f32>>;
@group(0) @binding(11) var<storage, read> grad2: array<vec4<f32>>;
@group(0) @binding(12) var<storage, read_write> parameters3: array<vec4<f32>>;
@group(0) @binding(13) var<storage, read_write> m3: array<vec4<f32>>;
@group(0) @binding(14) var<storage, read_write> v3: array<vec4<f32>>;
@group(0) @binding(15) var<storage, read> grad3: array<vec4<f32>>;
@group(0) @binding(16) var<storage, read_write> parameters4: array<vec4<f32>>;
@group(0) @binding(17) var<storage, read_write> m4: array<vec4<f32>>;
@group(0) @binding(18) var<storage, read_write> v4: array<vec4<f32>>;
@group(0) @binding(19) var<storage, read> grad4: array<vec4<f32>>;
@group(0) @binding(20) var<storage, read_write> parameters5: array<vec4<f32>>;
@group(0) @binding(21) var<storage, read_write> m5: array<vec4<f32>>;
@group(0) @binding(22) var<storage, read_write> v5: array<vec4<f32>>;
@group(0) @binding(23) var<storage, read> grad5: array<vec4<f32>>;
@group(0) @binding(24) var<storage, read_write> parameters6: array<vec4<f32>>;
@group(0) @binding(25) var<storage, read_write> m6: array<vec4<f32>>;
@group(0) @binding(26) var<storage, read_write> v6: array<vec4<f32>>;
@group(0) @binding(27) var<storage, read> grad6: array<vec4<f32>>;

/// Four elements after the step.
struct Stepped { parameters: vec4<f32>, m: vec4<f32>, v: vec4<f32> }

fn stepped(parameters: vec4<f32>, m: vec4<f32>, v: vec4<f32>, grad: vec4<f32>, decay: f32) -> Stepped {
    let g = p.grad_scale * grad;
    let first = p.beta1 * m + p.beta1_rest * g;
    let second = p.beta2 * v + p.beta2_rest * g * g;
    let moved = parameters * decay - p.step_size * first / (sqrt(second) * p.root_scale + p.epsilon);
    return Stepped(moved, first, second);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var i = (group.y * groups.x + group.x) * 64u + lane;
    if i < p.fours0 {
        let s = stepped(parameters0[i], m0[i], v0[i], grad0[i], p.decay0);
        parameters0[i] = s.parameters;
        m0[i] = s.m;
        v0[i] = s.v;
        return;
    }
    i -= p.fours0;
    if i < p.fours1 {
        let s = stepped(parameters1[i], m1[i], v1[i], grad1[i], p.decay1);
        parameters1[i] = s.parameters;
        m1[i] = s.m;
        v1[i] = s.v;
        return;
    }
    i -= p.fours1;
    if i < p.fours2 {
        let s = stepped(parameters2[i], m2[i], v2[i], grad2[i], p.decay2);
        parameters2[i] = s.parameters;
        m2[i] = s.m;
        v2[i] = s.v;
        return;
    }
    i -= p.fours2;
    if i < p.fours3 {
        let s = stepped(parameters3[i], m3[i], v3[i], grad3[i], p.decay3);
        parameters3[i] = s.parameters;
        m3[i] = s.m;
        v3[i] = s.v;
        return;
    }
    i -= p.fours3;
    if i < p.fours4 {
        let s = stepped(parameters4[i], m4[i], v4[i], grad4[i], p.decay4);
        parameters4[i] = s.parameters;
        m4[i] = s.m;
        v4[i] = s.v;
        return;
    }
    i -= p.fours4;
    if i < p.fours5 {
        let s = stepped(parameters5[i], m5[i], v5[i], grad5[i], p.decay5);
        parameters5[i] = s.parameters;
        m5[i] = s.m;
        v5[i] = s.v;
        return;
    }
    i -= p.fours5;
    if i < p.fours6 {
        let s = stepped(parameters6[i], m6[i], v6[i], grad6[i], p.decay6);
        parameters6[i] = s.parameters;
        m6[i] = s.m;
        v6[i] = s.v;
        return;
    }
}
