//! Every op's gradient against finite differences, in the middle of a graph and with an upstream gradient that is not ones.
use engine::backend::{AttentionShape, Device, RowIndex, Unary};
use engine::forest::Forest;
use engine::ops::{self, HeadTerm, HeadTerms};
use engine::random::Stream;
use engine::reference::Reference;
use engine::tape::Tape;
use engine::tensor::Tensor;
use std::sync::Arc;

fn device() -> Device {
    Arc::new(Reference)
}

fn random(shape: &[usize], stream: u64) -> Tensor {
    let s = Stream::new(7, stream);
    let values = (0..shape.iter().product::<usize>() as u64).map(|i| s.normal(i)).collect();
    Tensor::from_f32(&device(), values, shape).unwrap()
}

/// loss = Σ weight ∘ f(2·x + x²): f sits in the middle, its inputs depend on leaves and its output on a random weight.
fn loss(f: &dyn Fn(&[Tensor]) -> engine::Result<Tensor>, leaves: &[Tensor]) -> engine::Result<Tensor> {
    let inner = leaves
        .iter()
        .map(|x| ops::add(&ops::scale(x, 0.7)?, &ops::scale(&ops::square(x)?, 0.2)?))
        .collect::<engine::Result<Vec<_>>>()?;
    let y = f(&inner)?;
    let weight = random(y.shape(), 99);
    ops::sum(&ops::mul(&y, &weight)?)
}

/// Compares the tape's gradient of every leaf with central differences in `directions` random directions.
fn check(name: &str, leaves: &[Tensor], f: impl Fn(&[Tensor]) -> engine::Result<Tensor>) {
    let tape = Tape::new();
    let watched: Vec<Tensor> = leaves.iter().map(|t| tape.watch(t)).collect();
    let root = loss(&f, &watched).unwrap();
    let one = Tensor::scalar(&device(), 1.0).unwrap();
    let mut gradients = tape.backward([(&root, one)]).unwrap();
    for (number, leaf) in leaves.iter().enumerate() {
        let gradient =
            gradients.take(&watched[number]).unwrap_or_else(|| panic!("{name}: leaf {number} has no gradient"));
        let gradient = gradient.to_vec().unwrap();
        for direction in 0..3 {
            let d = random(leaf.shape(), 1000 + direction).to_vec().unwrap();
            let epsilon = 2e-3f32;
            let at = |sign: f32| {
                let mut moved = leaves.to_vec();
                let direction = Tensor::from_f32(&device(), d.clone(), leaf.shape()).unwrap();
                moved[number].add_in_place(sign * epsilon, &direction).unwrap();
                f64::from(loss(&f, &moved).unwrap().item().unwrap())
            };
            let numeric = (at(1.0) - at(-1.0)) / (2.0 * f64::from(epsilon));
            let exact: f64 = gradient.iter().zip(&d).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            // Rounding of the loss (~1e-6 of its terms) over 2ε, and ε² of the third derivative.
            let size: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            let scale = size.max(1.0);
            assert!(
                (numeric - exact).abs() < 1e-2 * scale,
                "{name}: leaf {number}: {numeric} by differences, {exact} by the tape"
            );
        }
    }
}

fn index(rows: &[u32]) -> Arc<RowIndex> {
    Arc::new(RowIndex::new(&*device(), rows).unwrap())
}

#[test]
fn elementwise() {
    for op in [
        Unary::Affine(-1.5, 0.3),
        Unary::Exp,
        Unary::Square,
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::LogSigmoid,
        Unary::Silu,
        Unary::Clamp(-50.0, 50.0),
    ] {
        check(&format!("{op:?}"), &[random(&[3, 5], 1)], move |x| ops::unary(op, &x[0]));
    }
    let (a, row) = (random(&[4, 6], 1), random(&[6], 2));
    check("add", &[a.clone(), row.clone()], |x| ops::add(&x[0], &x[1]));
    check("sub", &[a.clone(), row.clone()], |x| ops::sub(&x[0], &x[1]));
    check("mul", &[a.clone(), row.clone()], |x| ops::mul(&x[0], &x[1]));
    check("div", &[a.clone(), row.clone()], |x| ops::div(&x[0], &ops::add_scalar(&ops::exp(&x[1])?, 0.5)?));
    let b = random(&[4, 6], 3);
    check("minimum", &[a.clone(), b.clone()], |x| ops::minimum(&x[0], &x[1]));
    check("maximum", &[a, b], |x| ops::maximum(&x[0], &x[1]));
}

#[test]
fn a_tie_shares_its_gradient() {
    let tape = Tape::new();
    let a = tape.watch(&Tensor::from_f32(&device(), vec![1.0, 2.0, -3.0], &[3]).unwrap());
    let b = tape.watch(&Tensor::from_f32(&device(), vec![1.0, 0.0, 5.0], &[3]).unwrap());
    let y = ops::minimum(&a, &b).unwrap();
    let dy = Tensor::from_f32(&device(), vec![4.0, 8.0, 16.0], &[3]).unwrap();
    let mut gradients = tape.backward([(&y, dy)]).unwrap();
    assert_eq!(gradients.take(&a).unwrap().to_vec().unwrap(), [2.0, 0.0, 16.0]);
    assert_eq!(gradients.take(&b).unwrap().to_vec().unwrap(), [2.0, 8.0, 0.0]);
}

#[test]
fn products() {
    let (x, w, b) = (random(&[5, 7], 1), random(&[3, 7], 2), random(&[3], 3));
    check("linear", &[x.clone(), w.clone(), b], |t| ops::linear(&t[0], &t[1], Some(&t[2])));
    check("linear_onto", &[random(&[5, 3], 4), x.clone(), w], |t| ops::linear_onto(t[0].clone(), &t[1], &t[2], 0.5));
    check("matmul", &[x, random(&[7, 4], 5)], |t| ops::matmul(&t[0], &t[1]));
}

#[test]
fn rows_and_sums() {
    check("gather_rows", &[random(&[4, 3], 1)], |t| ops::gather_rows(&t[0], &index(&[2, 0, 2, 2, 3])));
    check("sum_by_group", &[random(&[5, 2], 1)], |t| ops::sum_by_group(&t[0], &index(&[1, 0, 1, 3, 1]), 4));
    check("sum_rows", &[random(&[5, 3], 1)], |t| ops::sum_rows(&t[0]));
    check("sum", &[random(&[5, 3], 1)], |t| ops::sum(&t[0]));
}

#[test]
fn transformer_parts() {
    check("rms_norm", &[random(&[5, 8], 1), random(&[8], 2)], |t| ops::rms_norm(&t[0], &t[1], 1e-5));
    let leaves = [random(&[5, 8], 1), random(&[5, 8], 2), random(&[8], 3)];
    check("add_rms_norm", &leaves, |t| {
        let (s, y) = ops::add_rms_norm(&t[0], t[1].clone(), &t[2], 1e-5)?;
        ops::add(&ops::mul(&s, &ops::scale(&y, 0.3)?)?, &y)
    });
    check("add_rms_norm, the sum alone", &leaves, |t| {
        let (s, _) = ops::add_rms_norm(&t[0], t[1].clone(), &t[2], 1e-5)?;
        ops::mul(&s, &t[2])
    });
    check("add_rms_norm, the norm alone, of twice the same", &[random(&[5, 8], 1), random(&[8], 3)], |t| {
        Ok(ops::add_rms_norm(&t[0], t[0].clone(), &t[1], 1e-5)?.1)
    });
    check("rms_norm beside a residual", &[random(&[5, 8], 1), random(&[8], 2)], |t| {
        ops::mul(&ops::rms_norm(&t[0], &t[1], 1e-5)?, &t[0])
    });
    check("row_norms", &[random(&[5, 8], 1)], |t| ops::row_norms(&t[0]));
    check("swiglu", &[random(&[3, 5], 1), random(&[3, 5], 2)], |t| ops::swiglu(&t[0], &t[1]));
    check("dropout", &[random(&[3, 9], 1)], |t| ops::dropout(&t[0], 0.4, Stream::new(1, 2)));
    check("to_device", &[random(&[3], 1)], |t| ops::to_device(&t[0], &device()));
    let table = ops::RopeTable::new(&device(), &[1.0, 0.3], 16).unwrap();
    let positions = device().upload(engine::buffer::Host::U32(vec![3, 0, 7])).unwrap();
    check("rope", &[random(&[3, 2, 6], 1)], move |t| ops::rope(&t[0], &table, &positions));
}

#[test]
fn attention_over_a_forest() {
    let mut forest = Forest::new();
    let root = forest.push(None, &[1, 2, 3]).unwrap();
    forest.push(Some(root), &[4, 5]).unwrap();
    let child = forest.push(Some(root), &[6]).unwrap();
    forest.push(Some(child), &[7, 8]).unwrap();
    forest.push(None, &[9, 10]).unwrap();
    for window in [usize::MAX, 2] {
        let plan = Arc::new(forest.attention_plan());
        let shape = AttentionShape { n_heads: 4, n_kv_heads: 2, head_size: 6, scale: 0.4, window };
        let leaves = [random(&[10, 4, 6], 1), random(&[10, 2, 6], 2), random(&[10, 2, 6], 3)];
        check("attention", &leaves, move |t| ops::attention(shape, &plan, &t[0], &t[1], &t[2]));
    }
}

#[test]
fn lm_head_log_probabilities() {
    let leaves = [random(&[5, 4], 1), random(&[11, 4], 2)];
    check("lm_head", &leaves, |t| Ok(ops::lm_head(&t[0], &t[1], &[3, 0, 10, 3, 7], 0.8)?.logp));
}

/// Two products inside a factor and one that it does not touch: gradients to each of them and to the factor.
#[test]
fn lm_head_of_several_products() {
    let leaves = [[5, 4], [11, 4], [5, 2], [11, 2], [5, 3], [11, 3], [1, 11]];
    let leaves: Vec<Tensor> = leaves.iter().zip(1..).map(|(shape, seed)| random(shape, seed)).collect();
    for with_factor in [true, false] {
        let n = if with_factor { 7 } else { 6 };
        check("lm_head of several products", &leaves[..n], move |t| {
            let term = |i: usize, scale: f32| HeadTerm { x: t[i].clone(), w: t[i + 1].clone(), scale };
            let head = HeadTerms {
                terms: vec![term(0, 1.0), term(2, 0.7)],
                factor: t.get(6).cloned(),
                rest: vec![term(4, 1.3)],
            };
            Ok(ops::adapted_lm_head(&head, &[3, 0, 10, 3, 7], 0.8)?.logp)
        });
    }
}

#[test]
fn checkpointing_changes_no_bit() {
    let f =
        |t: &[Tensor]| ops::linear(&ops::dropout(&ops::swiglu(&t[0], &t[0])?, 0.3, Stream::new(3, 4))?, &t[1], None);
    let leaves = [random(&[5, 7], 1), random(&[3, 7], 2)];
    check("checkpoint", &leaves, move |t| ops::checkpoint(t, f));
    let gradient = |checkpointed: bool| {
        let tape = Tape::new();
        let t: Vec<Tensor> = leaves.iter().map(|t| tape.watch(t)).collect();
        let y = if checkpointed { ops::checkpoint(&t, f).unwrap() } else { f(&t).unwrap() };
        let mut g = tape.backward([(&y, random(y.shape(), 9))]).unwrap();
        t.iter().map(|t| g.take(t).unwrap().to_vec().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(gradient(true), gradient(false));
}

#[test]
fn what_has_no_gradient_says_so() {
    let tape = Tape::new();
    let h = tape.watch(&random(&[2, 4], 1));
    let scored = ops::lm_head(&h, &random(&[5, 4], 2), &[1, 2], 1.0).unwrap();
    let error = tape.backward([(&scored.entropy, random(&[2], 3))]).err().unwrap().to_string();
    assert!(error.contains("lm_head") && error.contains("entropy"), "{error}");
    let error = tape.watch(&random(&[2], 1)).cast(engine::dtype::DType::BF16).unwrap_err().to_string();
    assert!(error.contains("detach"), "{error}");
    let other = Tape::new().watch(&random(&[2, 4], 1));
    assert!(ops::add(&tape.watch(&random(&[2, 4], 1)), &other).is_err());
}

/// One input of several products, and one weight of two: each product is added onto the gradient that the others gave.
#[test]
fn gradients_add_up_inside_products() {
    let (x, w, other, square) = (random(&[5, 4], 1), random(&[3, 4], 2), random(&[3, 4], 3), random(&[4, 4], 4));
    check("products of one input", &[x, w, other, square], |l| {
        let (x, w, other, square) = (&l[0], &l[1], &l[2], &l[3]);
        let y = ops::add(&ops::linear(x, w, None)?, &ops::linear(x, other, None)?)?;
        let y = ops::linear_onto(y, &ops::square(x)?, w, 0.5)?;
        let twice = ops::matmul(&ops::matmul(x, square)?, square)?;
        ops::add(&y, &ops::linear(&ops::mul(&twice, x)?, other, None)?)
    });
}

/// What is added onto may have another owner: the gradient of a sum goes to both terms, and one of them is changed.
#[test]
fn a_gradient_with_two_owners_is_not_changed_for_the_other() {
    check("a sum and a product", &[random(&[5, 4], 1), random(&[4, 4], 2), random(&[5, 4], 3)], |l| {
        let (x, w, other) = (&l[0], &l[1], &l[2]);
        // In the backward, x and `other` get the same gradient; then the product adds onto that of x.
        let product = ops::linear(x, w, None)?;
        ops::mul(&ops::add(x, other)?, &product)
    });
}
