//! 0: reverse-mode differentiation of single numbers, whole: what the engine's tape does with tensors.
//!
//! ```text
//! cargo run --release --example 00_scalar_autograd
//! ```
use std::error::Error;

/// A number that was computed: its value, and what it was computed from: (which number, ∂ this / ∂ that).
struct Node {
    value: f64,
    from: Vec<(usize, f64)>,
}

/// All numbers in the order in which they were computed. A number is known by its place.
#[derive(Default)]
struct Numbers(Vec<Node>);

impl Numbers {
    fn push(&mut self, value: f64, from: Vec<(usize, f64)>) -> usize {
        self.0.push(Node { value, from });
        self.0.len() - 1
    }
    fn leaf(&mut self, value: f64) -> usize {
        self.push(value, vec![])
    }
    fn value(&self, x: usize) -> f64 {
        self.0[x].value
    }
    /// y = a + b  ⟹  ∂y/∂a = 1, ∂y/∂b = 1
    fn add(&mut self, a: usize, b: usize) -> usize {
        self.push(self.value(a) + self.value(b), vec![(a, 1.0), (b, 1.0)])
    }
    /// y = a b  ⟹  ∂y/∂a = b, ∂y/∂b = a
    fn mul(&mut self, a: usize, b: usize) -> usize {
        self.push(self.value(a) * self.value(b), vec![(a, self.value(b)), (b, self.value(a))])
    }
    /// y = tanh x  ⟹  ∂y/∂x = 1 − y²
    fn tanh(&mut self, x: usize) -> usize {
        let y = self.value(x).tanh();
        self.push(y, vec![(x, 1.0 - y * y)])
    }

    /// ∂ `of` / ∂ every number: from the last to the first, each hands on what arrived at it.
    fn gradients(&self, of: usize) -> Vec<f64> {
        let mut gradients = vec![0.0; self.0.len()];
        gradients[of] = 1.0;
        for (i, node) in self.0.iter().enumerate().rev() {
            for &(input, slope) in &node.from {
                gradients[input] += slope * gradients[i];
            }
        }
        gradients
    }
}

/// Exclusive or, as −1 and 1: two inputs and what should come out.
const ROWS: [([f64; 2], f64); 4] = [([-1.0, -1.0], -1.0), ([-1.0, 1.0], 1.0), ([1.0, -1.0], 1.0), ([1.0, 1.0], -1.0)];

/// A network of three tanh units and a sum: Σ over the rows of (output − target)², a function of 13 weights.
/// Returns the loss, and the weights' places, which are the first.
fn loss(numbers: &mut Numbers, weights: &[f64; 13]) -> usize {
    let w = weights.map(|value| numbers.leaf(value));
    let mut total = numbers.leaf(0.0);
    for (x, target) in ROWS {
        let x = x.map(|value| numbers.leaf(value));
        let mut output = w[12];
        for unit in 0..3 {
            let (a, b) = (numbers.mul(w[4 * unit], x[0]), numbers.mul(w[4 * unit + 1], x[1]));
            let sum = numbers.add(a, b);
            let sum = numbers.add(sum, w[4 * unit + 2]);
            let y = numbers.tanh(sum);
            let y = numbers.mul(w[4 * unit + 3], y);
            output = numbers.add(output, y);
        }
        let minus = numbers.leaf(-target);
        let error = numbers.add(output, minus);
        // One number read twice: both halves of its gradient arrive at it.
        let square = numbers.mul(error, error);
        total = numbers.add(total, square);
    }
    total
}

/// Gradient descent on the network, after its gradient was compared with differences of the loss.
pub fn main() -> Result<(), Box<dyn Error>> {
    let mut weights = [0.5, -0.4, 0.1, 0.3, 0.6, 0.7, -0.2, -0.5, -0.3, 0.8, 0.2, 0.4, 0.0];
    let at = |weights: &[f64; 13]| {
        let mut numbers = Numbers::default();
        let root = loss(&mut numbers, weights);
        (numbers.value(root), numbers.gradients(root))
    };
    let (_, gradients) = at(&weights);
    for i in 0..weights.len() {
        let moved = |by: f64| {
            let mut moved = weights;
            moved[i] += by;
            at(&moved).0
        };
        let by_differences = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((gradients[i] - by_differences).abs() < 1e-8, "weight {i}: {} {by_differences}", gradients[i]);
    }
    println!("13 gradients agree with differences of the loss");

    let mut last = f64::INFINITY;
    for step in 0..=50 {
        let (loss, gradients) = at(&weights);
        if step % 10 == 0 {
            println!("step {step:2}: loss {loss:.4}");
        }
        weights.iter_mut().zip(gradients).for_each(|(w, g)| *w -= 0.05 * g);
        last = loss;
    }
    assert!(last < 0.01, "the loss is still {last}");
    Ok(())
}
