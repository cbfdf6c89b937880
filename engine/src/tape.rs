//! Reverse-mode automatic differentiation: a tape of what was computed, walked backwards once.
//!
//! Every op computes its result at once and, if an input is on a tape, appends a node: which inputs it read and a
//! closure from the gradients of its outputs to the gradients of its inputs. [`Tape::backward`] walks the nodes in
//! reverse, sums what arrives at a tensor in a fixed order, and frees what each node saved as soon as it was used.
//! A backward that can add onto memory takes the sum so far ([`Arrived`]), so that it needs no second pass to be added.
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Gradients of an op's outputs (None: nothing flowed back there) to gradients of its inputs (None: not asked for).
type Backward = Box<dyn FnOnce(Vec<Option<Tensor>>, &mut Arrived) -> Result<Vec<Option<Tensor>>> + Send>;

/// By input of an op, the sum of the gradients that arrived there from ops recorded later.
pub(crate) struct Arrived(Vec<Option<Tensor>>);

impl Arrived {
    /// The sum so far at an input, perhaps under another shape. Whoever takes it returns it with the own part added.
    pub fn take(&mut self, input: usize) -> Option<Tensor> {
        self.0.get_mut(input).and_then(Option::take)
    }
}

struct Node {
    op: &'static str,
    /// (node, output) of each input; None where the input is not on the tape.
    inputs: Vec<Option<(usize, usize)>>,
    /// Shape of each output. Reshaped views share the node, so a gradient may arrive under another shape.
    shapes: Vec<Vec<usize>>,
    /// None for a leaf.
    backward: Option<Backward>,
}

/// A tensor's place on a tape: output `output` of node `node`.
#[derive(Clone)]
pub(crate) struct Var {
    tape: Tape,
    node: usize,
    output: usize,
}

/// Records ops on the tensors it watches. Cheap to clone; clones are the same tape.
#[derive(Clone, Default)]
pub struct Tape(Arc<Mutex<Vec<Node>>>);

/// What [`Tape::backward`] returns: the gradient of each watched tensor that influenced the result.
#[derive(Default)]
pub struct Gradients(HashMap<usize, Tensor>);

impl Tape {
    /// A tape with nothing recorded.
    pub fn new() -> Self {
        Self::default()
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        // A poisoned lock only says that some thread panicked between two pushes; the list is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of entries: leaves, and ops that wait for the backward.
    pub fn len(&self) -> usize {
        self.nodes().len()
    }
    /// Whether nothing waits for a backward.
    pub fn is_empty(&self) -> bool {
        self.nodes().is_empty()
    }

    /// A leaf: the same values, with gradients collected from here on.
    pub fn watch(&self, tensor: &Tensor) -> Tensor {
        let mut nodes = self.nodes();
        nodes.push(Node { op: "leaf", inputs: vec![], shapes: vec![tensor.shape().to_vec()], backward: None });
        let var = Var { tape: self.clone(), node: nodes.len() - 1, output: 0 };
        tensor.clone().with_var(Some(var))
    }

    /// Walks back from `roots`, pairs of a tensor on this tape and ∂loss/∂tensor. The tape is empty afterwards.
    pub fn backward<'a>(&self, roots: impl IntoIterator<Item = (&'a Tensor, Tensor)>) -> Result<Gradients> {
        let mut nodes = std::mem::take(&mut *self.nodes());
        let mut pending: Vec<Vec<Option<Tensor>>> = nodes.iter().map(|n| vec![None; n.shapes.len()]).collect();
        for (root, gradient) in roots {
            let var = root.var.as_ref().filter(|v| Arc::ptr_eq(&v.tape.0, &self.0) && v.node < pending.len());
            let Some(var) = var else {
                return Err(Error::NoGradient { op: "backward", detail: "the tensor is not on this tape".into() });
            };
            accumulate(&mut pending[var.node][var.output], gradient)?;
        }
        let mut leaves = HashMap::new();
        while let Some(node) = nodes.pop() {
            let Some(mut gradients) = pending.pop() else { break };
            if gradients.iter().all(Option::is_none) {
                continue;
            }
            for (gradient, shape) in gradients.iter_mut().zip(&node.shapes) {
                *gradient = gradient.take().map(|g| g.reshape(shape)).transpose()?;
            }
            let Some(backward) = node.backward else {
                if let Some(gradient) = gradients[0].take() {
                    leaves.insert(nodes.len(), gradient);
                }
                continue;
            };
            let taken = |input: &Option<(usize, usize)>| input.and_then(|(n, output)| pending[n][output].take());
            let mut arrived = Arrived(node.inputs.iter().map(taken).collect());
            let to_inputs = backward(gradients, &mut arrived)?;
            if to_inputs.len() != node.inputs.len() {
                let detail = format!("{} gradients for {} inputs", to_inputs.len(), node.inputs.len());
                return Err(Error::shape(node.op, detail));
            }
            for ((input, gradient), left) in node.inputs.iter().zip(to_inputs).zip(arrived.0) {
                match (input, gradient) {
                    (Some((n, output)), Some(g)) => {
                        let sum = &mut pending[*n][*output];
                        *sum = left.or(sum.take());
                        accumulate(sum, g)?;
                    }
                    (Some(_), None) => {
                        return Err(Error::NoGradient { op: node.op, detail: "an input on the tape got none".into() });
                    }
                    (None, _) => {}
                }
            }
        }
        Ok(Gradients(leaves))
    }
}

fn accumulate(sum: &mut Option<Tensor>, gradient: Tensor) -> Result<()> {
    match sum {
        Some(s) => s.add_in_place(1.0, &gradient),
        None => {
            *sum = Some(gradient);
            Ok(())
        }
    }
}

impl Gradients {
    /// Takes out the gradient of a watched tensor; None if it did not influence the result.
    pub fn take(&mut self, leaf: &Tensor) -> Option<Tensor> {
        self.0.remove(&leaf.var.as_ref()?.node)
    }
}

/// Puts the outputs of an op on its inputs' tape. `backward` maps the outputs' gradients to the inputs'.
/// Without an input on a tape nothing is recorded, and what `backward` captured is dropped.
pub(crate) fn record<const N: usize>(
    op: &'static str,
    inputs: &[&Tensor],
    outputs: [Tensor; N],
    backward: impl FnOnce(Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>> + Send + 'static,
) -> Result<[Tensor; N]> {
    record_onto(op, inputs, outputs, |gradients, _| backward(gradients))
}

/// [`record`] for a backward that may add onto what arrived at the inputs.
pub(crate) fn record_onto<const N: usize>(
    op: &'static str,
    inputs: &[&Tensor],
    outputs: [Tensor; N],
    backward: impl FnOnce(Vec<Option<Tensor>>, &mut Arrived) -> Result<Vec<Option<Tensor>>> + Send + 'static,
) -> Result<[Tensor; N]> {
    let Some(tape) = inputs.iter().find_map(|t| t.var.as_ref()).map(|v| v.tape.clone()) else {
        return Ok(outputs);
    };
    if inputs.iter().filter_map(|t| t.var.as_ref()).any(|v| !Arc::ptr_eq(&v.tape.0, &tape.0)) {
        return Err(Error::NoGradient { op, detail: "inputs are on different tapes".into() });
    }
    let inputs = inputs.iter().map(|t| t.var.as_ref().map(|v| (v.node, v.output))).collect();
    let shapes = outputs.iter().map(|t| t.shape().to_vec()).collect();
    let node = {
        let mut nodes = tape.nodes();
        nodes.push(Node { op, inputs, shapes, backward: Some(Box::new(backward)) });
        nodes.len() - 1
    };
    let mut output = 0;
    Ok(outputs.map(|t| {
        let var = Some(Var { tape: tape.clone(), node, output });
        output += 1;
        t.with_var(var)
    }))
}

/// [`record`] for the usual op with one output: `backward` gets its gradient.
pub(crate) fn record1(
    op: &'static str,
    inputs: &[&Tensor],
    output: Tensor,
    backward: impl FnOnce(Tensor) -> Result<Vec<Option<Tensor>>> + Send + 'static,
) -> Result<Tensor> {
    record1_onto(op, inputs, output, |dy, _| backward(dy))
}

/// [`record1`] for a backward that may add onto what arrived at the inputs.
pub(crate) fn record1_onto(
    op: &'static str,
    inputs: &[&Tensor],
    output: Tensor,
    backward: impl FnOnce(Tensor, &mut Arrived) -> Result<Vec<Option<Tensor>>> + Send + 'static,
) -> Result<Tensor> {
    let [output] = record_onto(op, inputs, [output], move |mut gradients, arrived| match gradients.pop().flatten() {
        Some(dy) => backward(dy, arrived),
        None => Err(Error::NoGradient { op, detail: "no gradient arrived".into() }),
    })?;
    Ok(output)
}
