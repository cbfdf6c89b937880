//! The one tensor type: shape, dtype, device memory, and optionally a place on a [`Tape`](crate::tape::Tape).
//!
//! A tensor is cheap to clone (the memory is shared) and never changes under a holder's feet: what changes values in
//! place ([`Tensor::add_in_place`], the optimisers) copies first if anyone else still holds them.
use crate::backend::Device;
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tape::Var;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How values are computed again from others. Cheap ops (norms, SwiGLU, dropout) give one to their results, so that an op that needs
/// the values in the backward keeps the recipe and not the memory. They are computed once for all who kept it.
pub(crate) struct Recipe {
    make: Box<dyn Fn() -> Result<Tensor> + Send + Sync>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// How many will ask yet.
    users: usize,
    values: Option<Tensor>,
}

impl Recipe {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values for one of those who kept the recipe; forgotten with the last one.
    fn get(&self) -> Result<Tensor> {
        let mut kept = self.kept();
        let values = match kept.values.take() {
            Some(values) => values,
            None => (self.make)()?,
        };
        kept.users = kept.users.saturating_sub(1);
        if kept.users > 0 {
            kept.values = Some(values.clone());
        }
        Ok(values)
    }
}

/// A shape, values on a device and, where gradients are wanted, a place on a tape. Cheap to clone: values are shared.
#[derive(Clone)]
pub struct Tensor {
    buffer: Buffer,
    shape: Vec<usize>,
    device: Device,
    pub(crate) var: Option<Var>,
    recipe: Option<Arc<Recipe>>,
}

/// Values kept for the backward: as they are, or as a recipe.
pub(crate) enum Saved {
    Values(Tensor),
    Recipe(Arc<Recipe>),
}

impl Saved {
    /// The values, perhaps computed again: the same bits.
    pub fn get(&self) -> Result<Tensor> {
        match self {
            Saved::Values(x) => Ok(x.clone()),
            Saved::Recipe(recipe) => recipe.get(),
        }
    }
}

impl Tensor {
    /// A tensor of `shape` from host values, copied to the device.
    pub fn new(device: &Device, values: Host, shape: &[usize]) -> Result<Self> {
        let n: usize = shape.iter().product();
        let dtype = values.dtype();
        if values.bytes() != dtype.bytes(n) {
            let detail = format!("{} bytes of {} do not fill shape {shape:?}", values.bytes(), dtype.name());
            return Err(Error::shape("tensor", detail));
        }
        Ok(Self::from_buffer(device, device.upload(values)?, shape))
    }

    /// Values in row-major order; an error if `shape` has another number of elements.
    pub fn from_f32(device: &Device, values: Vec<f32>, shape: &[usize]) -> Result<Self> {
        Self::new(device, Host::F32(values), shape)
    }

    /// A tensor of one value, shape [1].
    pub fn scalar(device: &Device, value: f32) -> Result<Self> {
        Self::from_f32(device, vec![value], &[1])
    }

    /// float32 zeros.
    pub fn zeros(device: &Device, shape: &[usize]) -> Result<Self> {
        Ok(Self::from_buffer(device, device.zeros(shape.iter().product())?, shape))
    }

    /// Wraps what a kernel returned.
    pub fn from_buffer(device: &Device, buffer: Buffer, shape: &[usize]) -> Self {
        Tensor { buffer, shape: shape.to_vec(), device: device.clone(), var: None, recipe: None }
    }

    /// Sizes, slowest first; [] for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether some size is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// (rows, columns), all but the last dimension taken together: [T, H, E] is (T·H, E).
    pub fn matrix(&self) -> (usize, usize) {
        let columns = self.shape.last().copied().unwrap_or(1);
        (self.len() / columns.max(1), columns)
    }
    /// What one element is.
    pub fn dtype(&self) -> DType {
        self.buffer.dtype()
    }
    /// Where the values are.
    pub fn device(&self) -> &Device {
        &self.device
    }
    /// The values as the device holds them.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }
    /// The memory, to change in place by whoever owns the tensor.
    pub fn buffer_mut(&mut self) -> &mut Buffer {
        &mut self.buffer
    }
    /// The values, given away; a copy is made by nobody.
    pub fn into_buffer(self) -> Buffer {
        self.buffer
    }

    /// The f32 values in host memory.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        match self.device.download(&self.buffer)? {
            Host::F32(v) => Ok(v),
            other => Err(Error::shape("to_vec", format!("float32 needed, {} found", other.dtype().name()))),
        }
    }

    /// The values in host memory, as they are: shared where they lie there, else downloaded.
    pub fn to_host(&self) -> Result<Arc<Host>> {
        match &self.buffer {
            Buffer::Host(values) => Ok(values.clone()),
            Buffer::Device(_) => Ok(Arc::new(self.device.download(&self.buffer)?)),
        }
    }

    /// The one value of a tensor with one element.
    pub fn item(&self) -> Result<f32> {
        match self.to_vec()?[..] {
            [x] => Ok(x),
            ref other => Err(Error::shape("item", format!("one element needed, {} found", other.len()))),
        }
    }

    /// The same values, off the tape: no gradient flows through.
    pub fn detach(&self) -> Tensor {
        Tensor { var: None, ..self.clone() }
    }

    /// What an op keeps of this tensor for its backward.
    pub(crate) fn saved(&self) -> Saved {
        match &self.recipe {
            Some(recipe) => {
                recipe.kept().users += 1;
                Saved::Recipe(recipe.clone())
            }
            None => Saved::Values(self.detach()),
        }
    }

    /// The same tensor, with how to compute it again if it lies on a tape.
    pub(crate) fn with_recipe(self, recipe: impl Fn() -> Result<Tensor> + Send + Sync + 'static) -> Tensor {
        let recipe = Recipe { make: Box::new(recipe), kept: Mutex::default() };
        let recipe = self.needs_grad().then(|| Arc::new(recipe));
        Tensor { recipe, ..self }
    }

    pub(crate) fn with_var(self, var: Option<Var>) -> Tensor {
        Tensor { var, ..self }
    }

    /// Whether a gradient will be asked of this tensor.
    pub fn needs_grad(&self) -> bool {
        self.var.is_some()
    }

    /// The same elements under another shape; the gradient passes through as it is.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor> {
        if shape.iter().product::<usize>() != self.len() {
            return Err(Error::shape("reshape", format!("{:?} into {shape:?}", self.shape)));
        }
        Ok(Tensor { shape: shape.to_vec(), ..self.clone() })
    }

    /// self ← self + α·other, without a gradient.
    pub fn add_in_place(&mut self, alpha: f32, other: &Tensor) -> Result<()> {
        if self.len() != other.len() {
            return Err(Error::shape("add_in_place", format!("{:?} and {:?}", self.shape, other.shape)));
        }
        let n = self.len();
        self.device.add_scaled(&mut self.buffer, alpha, &other.buffer, n)
    }

    /// The same values as `dtype` (no gradient).
    pub fn cast(&self, dtype: DType) -> Result<Tensor> {
        if dtype == self.dtype() && !self.buffer.is_packed() {
            return Ok(self.clone());
        }
        if self.needs_grad() {
            return Err(Error::NoGradient { op: "cast", detail: "detach the tensor first".into() });
        }
        Ok(Self::from_buffer(&self.device, self.device.cast(&self.buffer, self.len(), dtype)?, &self.shape))
    }

    /// A matrix [n, k] as its device likes to read it in products with few rows (no gradient): the same bits in all that reads it.
    pub fn packed(&self) -> Result<Tensor> {
        let (n, k) = self.matrix();
        Ok(Self::from_buffer(&self.device, self.device.pack_weight(&self.buffer, n, k)?, &self.shape))
    }

    /// The same values on another device (no gradient; see [`crate::ops::to_device`] for one that has it).
    pub fn to(&self, device: &Device) -> Result<Tensor> {
        Self::new(device, self.device.download(&self.buffer)?, &self.shape)
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let grad = if self.needs_grad() { ", on the tape" } else { "" };
        write!(f, "Tensor({:?}, {}, {}{grad})", self.shape, self.dtype().name(), self.device.name())
    }
}
