//! Tokens chosen on software Vulkan against those of the CPU and of the reference, draw by draw.
use super::counting::Cost;
use super::*;
use crate::cpu::Cpu;
use crate::likelihood::{aim, exp, key, likelihood, weight};
use crate::random::Stream;

const ALL: Choice = Choice { greedy: false, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };

/// Tokens of rows that all have these logits, each with its own stream, number `index` of it.
fn tokens(d: &dyn Backend, row: &[f32], choice: Choice, rows: usize, index: u64) -> Vec<u32> {
    let draws: Vec<Draw<'_>> =
        (0..rows).map(|i| Draw { stream: Stream::new(5, i as u64), index, seen: &[3, 1] }).collect();
    let logits = d.upload(Host::F32(row.repeat(rows))).unwrap();
    let tokens = d.sample(&logits, row.len(), choice, &draws).unwrap();
    let Host::U32(tokens) = d.download(&tokens).unwrap() else { panic!("no tokens") };
    tokens
}

/// e^x and its whole number have the CPU's bits: sample.wgsl with another entry, which writes them down.
#[test]
fn likelihoods_have_the_cpus_bits() {
    let Some(gpu) = software(GpuOptions::default()) else { return };
    let entry = "@compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < p.v {
                largest = numbers[0].x;
                let x = likelihood(key_at(id.x));
                tokens[3u * id.x] = bitcast<u32>(x);
                tokens[3u * id.x + 1u] = whole(x).x;
                tokens[3u * id.x + 2u] = whole(x).y;
            }
        }";
    let (body, _) = shaders::SAMPLE.source.split_once("@compute").unwrap();
    let source: &'static str = Box::leak(format!("{body}{entry}").into_boxed_str());
    let (n, stream) = (100_000usize, crate::random::Stream::new(2, 2));
    for largest in [0.0f32, 11.3, -40.7, f32::INFINITY] {
        let odd = [f32::NAN, f32::NEG_INFINITY, largest, largest.min(0.0) - 86.9, largest.min(0.0) - 1e30];
        let below =
            |i: usize| if largest.is_finite() { largest - 40.0 * stream.uniform(i as u64).powi(2) } else { i as f32 };
        let row: Vec<f32> = (0..n).map(|i| odd.get(i).copied().unwrap_or_else(|| below(i))).collect();
        let (x, out) = (up(&gpu, &row), gpu.new_buffer(DType::U32, 3 * n).unwrap());
        let numbers = gpu.upload(Host::U32(vec![key(largest), 0, 0, 0])).unwrap();
        let (x, numbers) = (gpu.gpu_buffer("test", &x).unwrap(), gpu.gpu_buffer("test", &numbers).unwrap());
        let call = recorder::Call {
            shader: shaders::Shader { name: "sample_likelihoods", source },
            constants: &[],
            params: &[1, n as u32, 0, 0, 0, 0, 0, 0],
            binds: &[x.whole(), numbers.whole(), out.whole()],
            groups: gpu.groups(n.div_ceil(64)),
            cost: Cost::MOVES,
        };
        gpu.dispatch(call).unwrap();
        let Host::U32(found) = gpu.download(&shared(out)).unwrap() else { panic!("no words") };
        for (z, found) in row.iter().zip(found.chunks(3)) {
            let x = likelihood(*z, largest);
            let expected = [x.to_bits(), weight(x) as u32, (weight(x) >> 32) as u32];
            assert_eq!(found, expected, "{z} below {largest}");
        }
    }
}

/// All of the distribution: the CPU adds in f64, the GPU in whole numbers. They may differ only where the number lies
/// within V · 2⁻⁴³ of a boundary, in units of the largest probability.
#[test]
fn tokens_differ_from_the_cpus_at_boundaries_only() {
    let Some(gpu) = software(GpuOptions::default()) else { return };
    let (cpu, rows, v) = (Cpu::new(Some(2)).unwrap(), 100, 49_152);
    let (mut n, mut different) = (0, 0);
    for index in 0..20u64 {
        let row: Vec<f32> = values(v, index).iter().map(|x| x * (1.0 + index as f32 / 4.0)).collect();
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        let [a, b] = [&*gpu as &dyn Backend, &*cpu].map(|d| tokens(d, &row, ALL, rows, index));
        let exact: Vec<f64> = row.iter().map(|z| f64::from(exp(z - largest))).collect();
        let total: f64 = exact.iter().sum();
        for i in 0..rows {
            n += 1;
            if a[i] != b[i] {
                different += 1;
                let u = (f64::from(Stream::new(5, i as u64).bits(index)) + 0.5) / 4294967296.0;
                let boundary: f64 = exact[..=a[i].min(b[i]) as usize].iter().sum();
                let apart = (u * total - boundary).abs();
                assert!(apart <= v as f64 * 2f64.powi(-43), "{} and {}: {apart} from the boundary", a[i], b[i]);
            }
        }
    }
    eprintln!("{different} of {n} tokens differ between {} and the CPU", gpu.name());
}

/// What is kept is what the words say, computed here from sorted probabilities; each token as often as it is likely.
#[test]
fn kept_tokens_and_their_frequencies() {
    let Some(gpu) = software(checked()) else { return };
    let (rows, v) = (100, 64);
    let row: Vec<f32> = values(v, 3).iter().map(|x| (4.0 * x).round() / 4.0).collect();
    let choices = [
        ALL,
        Choice { top_k: 9, ..ALL },
        Choice { top_p: 0.7, ..ALL },
        Choice { min_p: 0.2, ..ALL },
        Choice { top_k: 20, top_p: 0.9, min_p: 0.1, ..ALL },
    ];
    for choice in choices {
        let mut counts = vec![0; v];
        (0..30)
            .for_each(|index| tokens(&*gpu, &row, choice, rows, index).iter().for_each(|t| counts[*t as usize] += 1));
        let mut kept: Vec<usize> = (0..v).collect();
        kept.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        kept.truncate(if choice.top_k > 0 { choice.top_k } else { v });
        let sum = |of: &[usize]| of.iter().map(|i| f64::from(row[*i]).exp()).sum::<f64>();
        let all = sum(&kept);
        let fewest = (1..=kept.len()).find(|n| sum(&kept[..*n]) >= f64::from(choice.top_p) * all * (1.0 - 1e-9));
        kept.truncate(fewest.unwrap());
        let most = f64::from(row[kept[0]]).exp();
        kept.retain(|i| f64::from(row[*i]).exp() >= f64::from(choice.min_p) * most);
        let (n, left) = ((30 * rows) as f64, sum(&kept));
        for i in 0..v {
            let p = if kept.contains(&i) { sum(&[i]) / left } else { 0.0 };
            // five standard deviations
            let bound = 5.0 * (n * p * (1.0 - p)).sqrt();
            assert!(
                (f64::from(counts[i]) - n * p).abs() <= bound,
                "{choice:?}: {i} {} times, {} expected",
                counts[i],
                n * p
            );
        }
    }
}

/// A row's token depends on that row alone.
#[test]
fn tokens_do_not_depend_on_neighbours() {
    let Some(gpu) = software(GpuOptions::default()) else { return };
    let (m, v) = (33, 1003);
    let logits: Vec<f32> = values(m * v, 8).iter().map(|x| 3.0 * x).collect();
    for choice in [ALL, Choice { top_k: 50, top_p: 0.9, min_p: 0.01, repetition_penalty: 1.2, ..ALL }] {
        let run = |first: usize, rows: usize| {
            let draw = |i: usize| Draw { stream: Stream::new(9, i as u64), index: 4, seen: &[0, 5, 1002, 4000] };
            let draws: Vec<Draw<'_>> = (first..first + rows).map(draw).collect();
            let x = up(&gpu, &logits[first * v..][..rows * v]);
            let Host::U32(tokens) = gpu.download(&gpu.sample(&x, v, choice, &draws).unwrap()).unwrap() else {
                panic!("no tokens")
            };
            assert_eq!(down(&gpu, &x), logits[first * v..][..rows * v], "the logits stay as they were");
            tokens
        };
        let alone: Vec<u32> = (0..m).flat_map(|i| run(i, 1)).collect();
        assert_eq!(run(0, m), alone);
    }
}

/// Whole-number sums, on the numbers that a row of 49,152 gives: the token is the first whose sum passes the aim.
#[test]
fn a_token_by_hand() {
    let Some(gpu) = software(checked()) else { return };
    let row: Vec<f32> = values(49_152, 1).iter().map(|x| 2.0 * x).collect();
    let largest = row.iter().copied().fold(f32::MIN, f32::max);
    let weights: Vec<u64> = row.iter().map(|z| weight(likelihood(*z, largest))).collect();
    let expected = (0..8).map(|i| {
        let aim = aim(weights.iter().sum(), Stream::new(5, i).bits(11));
        let mut sum = 0;
        weights.iter().position(|w| {
            sum += w;
            sum > aim
        })
    });
    let expected: Vec<u32> = expected.map(|i| i.unwrap() as u32).collect();
    assert_eq!(tokens(&*gpu, &row, ALL, 8, 11), expected);
}

#[test]
fn wrong_choices_are_errors() {
    let Some(gpu) = software(checked()) else { return };
    let x = up(&gpu, &[0.0; 8]);
    let draw = [Draw { stream: Stream::new(1, 1), index: 0, seen: &[] }; 2];
    let message = |v: usize, choice: Choice| gpu.sample(&x, v, choice, &draw).unwrap_err().to_string();
    assert!(message(5, ALL).contains("10 elements needed, 8 found"));
    assert!(message(0, ALL).contains("without tokens"));
    assert!(message(1 << 20, ALL).contains("at most 524288"));
    assert!(message(4, Choice { top_p: 0.0, ..ALL }).contains("top_p: 0.0"));
    assert!(message(4, Choice { repetition_penalty: f32::NAN, ..ALL }).contains("repetition_penalty: NaN"));
}

/// The example at the head of sample.wgsl, for a thousand draws.
#[test]
fn worked_example_of_sampling() {
    let row = [0.0, 2f32.ln(), 5f32.ln()];
    let cpu = Cpu::new(Some(1)).unwrap();
    let gpu = software(checked());
    let mut devices: Vec<&dyn Backend> = vec![&*cpu];
    devices.extend(gpu.as_deref().map(|gpu| gpu as &dyn Backend));
    let u: Vec<f64> = (0..1000).map(|row| (f64::from(Stream::new(5, row).bits(0)) + 0.5) / 4_294_967_296.0).collect();
    let below = |bounds: [f64; 2]| -> Vec<u32> {
        u.iter().map(|&u| bounds.iter().filter(|&&bound| u >= bound).count() as u32).collect()
    };
    for device in devices {
        let drawn = |choice: Choice| tokens(device, &row, choice, 1000, 0);
        assert_eq!(drawn(ALL), below([1.0 / 8.0, 3.0 / 8.0]));
        assert_eq!(drawn(Choice { top_k: 2, ..ALL }), below([0.0, 2.0 / 7.0]));
        assert_eq!(drawn(Choice { min_p: 0.3, ..ALL }), below([0.0, 2.0 / 7.0]));
        assert_eq!(drawn(Choice { top_p: 0.6, ..ALL }), vec![2; 1000]);
    }
}
