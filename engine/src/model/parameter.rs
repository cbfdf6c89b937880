//! A model's tensors in their slots, and the walk over all of them: to read, to change, to map.
//!
//! A part of a model lists its fields once, in [`walk!`]; everything that goes over all tensors or over all linear layers
//! follows from it, in the order of the list.
use super::linear::Linear;
use crate::config::Slot;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// A tensor in its slot. Reads as the tensor.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Path, shape and role.
    pub slot: Arc<Slot>,
    /// The values, perhaps on a tape.
    pub tensor: Tensor,
    /// Whether training changes it.
    pub trained: bool,
    /// The values with the adapter off, where an adapter has values of its own for it.
    pub off: Option<Tensor>,
}

impl Parameter {
    /// Its path: `model.layers.0.self_attn.q_proj.weight`.
    pub fn path(&self) -> &str {
        &self.slot.path
    }

    /// [`Tensor::packed`] in the place of what it was.
    pub(crate) fn pack(&mut self) -> Result<()> {
        self.tensor = self.tensor.packed()?;
        Ok(())
    }
}

impl Deref for Parameter {
    type Target = Tensor;
    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}

/// A part of a model as its parameters and linear layers, in a fixed order.
pub(crate) trait Walk {
    fn parameters<'a>(&'a self, all: &mut Vec<&'a Parameter>);
    fn parameters_mut<'a>(&'a mut self, all: &mut Vec<&'a mut Parameter>);
    fn linears<'a>(&'a self, all: &mut Vec<&'a Linear>);
    fn linears_mut<'a>(&'a mut self, all: &mut Vec<&'a mut Linear>);

    /// The same part with `f` of every tensor.
    fn map(&self, mut f: impl FnMut(&Parameter) -> Result<Tensor>) -> Result<Self>
    where
        Self: Clone,
    {
        let mut mapped = self.clone();
        let mut all = Vec::new();
        mapped.parameters_mut(&mut all);
        for parameter in all {
            parameter.tensor = f(parameter)?;
        }
        Ok(mapped)
    }
}

impl Walk for Parameter {
    fn parameters<'a>(&'a self, all: &mut Vec<&'a Parameter>) {
        all.push(self);
    }
    fn parameters_mut<'a>(&'a mut self, all: &mut Vec<&'a mut Parameter>) {
        all.push(self);
    }
    fn linears<'a>(&'a self, _: &mut Vec<&'a Linear>) {}
    fn linears_mut<'a>(&'a mut self, _: &mut Vec<&'a mut Linear>) {}
}

impl<W: Walk> Walk for Option<W> {
    fn parameters<'a>(&'a self, all: &mut Vec<&'a Parameter>) {
        self.iter().for_each(|part| part.parameters(all));
    }
    fn parameters_mut<'a>(&'a mut self, all: &mut Vec<&'a mut Parameter>) {
        self.iter_mut().for_each(|part| part.parameters_mut(all));
    }
    fn linears<'a>(&'a self, all: &mut Vec<&'a Linear>) {
        self.iter().for_each(|part| part.linears(all));
    }
    fn linears_mut<'a>(&'a mut self, all: &mut Vec<&'a mut Linear>) {
        self.iter_mut().for_each(|part| part.linears_mut(all));
    }
}

impl<W: Walk> Walk for Vec<W> {
    fn parameters<'a>(&'a self, all: &mut Vec<&'a Parameter>) {
        self.iter().for_each(|part| part.parameters(all));
    }
    fn parameters_mut<'a>(&'a mut self, all: &mut Vec<&'a mut Parameter>) {
        self.iter_mut().for_each(|part| part.parameters_mut(all));
    }
    fn linears<'a>(&'a self, all: &mut Vec<&'a Linear>) {
        self.iter().for_each(|part| part.linears(all));
    }
    fn linears_mut<'a>(&'a mut self, all: &mut Vec<&'a mut Linear>) {
        self.iter_mut().for_each(|part| part.linears_mut(all));
    }
}

/// `walk!(Type { a, b });` with the fields that are parts, in order: parameters, other parts, Options and Vecs of them.
macro_rules! walk {
    ($part:ty { $($field:ident),* }) => {
        impl $crate::model::parameter::Walk for $part {
            fn parameters<'a>(&'a self, all: &mut Vec<&'a $crate::model::parameter::Parameter>) {
                $(self.$field.parameters(all);)*
            }
            fn parameters_mut<'a>(&'a mut self, all: &mut Vec<&'a mut $crate::model::parameter::Parameter>) {
                $(self.$field.parameters_mut(all);)*
            }
            fn linears<'a>(&'a self, all: &mut Vec<&'a $crate::model::linear::Linear>) {
                $(self.$field.linears(all);)*
            }
            fn linears_mut<'a>(&'a mut self, all: &mut Vec<&'a mut $crate::model::linear::Linear>) {
                $(self.$field.linears_mut(all);)*
            }
        }
    };
}
pub(crate) use walk;

/// The parameters of a model that is being built, by path.
pub(crate) struct Parts(BTreeMap<String, Parameter>);

impl Parts {
    /// Every slot filled by `tensor`, in the slots' order; all are to be trained.
    pub fn make(slots: Vec<Slot>, mut tensor: impl FnMut(&Slot) -> Result<Tensor>) -> Result<Self> {
        let part = |slot: Slot| {
            let tensor = tensor(&slot)?;
            Ok((slot.path.clone(), Parameter { slot: Arc::new(slot), tensor, trained: true, off: None }))
        };
        slots.into_iter().map(part).collect::<Result<_>>().map(Parts)
    }

    /// The parameter that the layout has under this path, if it has one.
    pub fn find(&mut self, path: &str) -> Option<Parameter> {
        self.0.remove(path)
    }

    /// The parameter that the layout must have under this path.
    pub fn take(&mut self, path: &str) -> Result<Parameter> {
        self.find(path).ok_or_else(|| Error::shape("build", format!("the model's layout has no {path}")))
    }

    /// A linear layer, with a bias if the layout has one.
    pub fn linear(&mut self, module: &str) -> Result<Linear> {
        let (weight, bias) = (self.take(&format!("{module}.weight"))?, self.find(&format!("{module}.bias")));
        Ok(Linear { weight, bias, lora: None })
    }

    /// An error where the layout has a parameter that nothing took: it would not be computed with.
    pub fn done(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(path) => Err(Error::shape("build", format!("the decoder has no place for {path}"))),
        }
    }
}
