//! LoRA on a decoder: adding, loading, saving, switching off, folding in.
//!
//! Beside linear layers of blocks, beside the output layer (tied or not) and beside the embedding; with what PEFT trains besides:
//! whole modules, biases, rows of the embedding (`token_rows.rs`). DoRA's magnitudes are in `dora.rs`. With the adapter off, every parameter has the base's values again.
use super::decoder::Decoder;
use super::dora;
use super::linear::Lora;
use super::parameter::Parameter;
use super::token_rows::TokenRows;
use crate::backend::{Device, Layout, Product, RowIndex};
use crate::config::{Role, SCORE, Slot};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::files::adapter::{Adapter, Named};
use crate::files::adapter_config::{AdapterConfig, Biases};
use crate::files::adapter_targets::Target;
use crate::ops;
use crate::random::Stream;
use crate::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Stream ids of initialisation start here, so that they meet no other use of the seed.
const INITIALISATION: u64 = 0x4c6f_5241 << 32;
/// The path of the output layer.
const OUTPUT: &str = "lm_head";

/// Where an adapter's tensors come from: a seed, or a file.
trait AdapterValues {
    /// The tensor of an adapter at `path`, in its slot's shape.
    fn part(&mut self, path: &str, role: Role, shape: &[usize], stream: u64) -> Result<Vec<f32>>;
    /// The values of a parameter of the model that is trained whole; None where it starts from the model's own.
    fn whole(&mut self, slot: &Slot, adapted: bool) -> Result<Option<Vec<f32>>>;
}

/// PEFT's start. Beside a linear layer A is uniform in ±1/√in (Kaiming-uniform with a = √5) and B is zero; beside an
/// embedding A is zero and B normal.
struct Fresh {
    seed: u64,
}

impl AdapterValues for Fresh {
    fn part(&mut self, _: &str, role: Role, shape: &[usize], stream: u64) -> Result<Vec<f32>> {
        let n: usize = shape.iter().product();
        let stream = Stream::new(self.seed, INITIALISATION + stream);
        Ok(match role {
            Role::LoraA => {
                let bound = 1.0 / (shape[1] as f32).sqrt();
                (0..n as u64).map(|i| bound * (2.0 * stream.uniform(i) - 1.0)).collect()
            }
            Role::EmbeddingB => (0..n as u64).map(|i| stream.normal(i)).collect(),
            _ => vec![0.0; n],
        })
    }
    fn whole(&mut self, _: &Slot, _: bool) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }
}

/// The tensors of a file that have not been taken yet.
struct FromFile<'a> {
    left: BTreeMap<&'a str, &'a (Vec<usize>, Vec<f32>)>,
}

impl FromFile<'_> {
    fn take(&mut self, name: &str, wanted: &[usize]) -> Result<Option<Vec<f32>>> {
        let Some((found, values)) = self.left.remove(name) else { return Ok(None) };
        if found[..] != *wanted {
            return Err(Error::Input(format!(
                "adapter tensor {name} is {found:?}, this model needs {wanted:?}: it was trained on another model"
            )));
        }
        Ok(Some(values.clone()))
    }
}

impl AdapterValues for FromFile<'_> {
    fn part(&mut self, path: &str, role: Role, shape: &[usize], _: u64) -> Result<Vec<f32>> {
        let Named { name, shape } = Named::of(path, role, shape, false);
        let values = self.take(&name, &shape)?.ok_or_else(|| {
            Error::Input(format!("the adapter has no tensor {name}, though its target_modules name it"))
        })?;
        Ok(if role == Role::EmbeddingA { transposed(&values, shape[0], shape[1]) } else { values })
    }
    fn whole(&mut self, slot: &Slot, adapted: bool) -> Result<Option<Vec<f32>>> {
        let Named { name, shape } = Named::of(&slot.path, slot.role, &slot.shape, adapted);
        let values = self.take(&name, &shape)?;
        values.map(Some).ok_or_else(|| {
            Error::Input(format!("the adapter has no tensor {name}, though its configuration says that it is trained"))
        })
    }
}

/// [m, n] → [n, m]
fn transposed(x: &[f32], m: usize, n: usize) -> Vec<f32> {
    (0..n).flat_map(|j| (0..m).map(move |i| x[i * n + j])).collect()
}

/// The adapter's layer beside a module.
fn lora_of(
    target: &Target,
    index: u64,
    config: &AdapterConfig,
    device: &Device,
    values: &mut dyn AdapterValues,
) -> Result<Lora> {
    let Target { module, r, scale, .. } = target;
    let mut part = |name: &str, role: Role, shape: &[usize]| {
        let path = format!("{}.{name}", module.path);
        let tensor = Tensor::from_f32(device, values.part(&path, role, shape, index)?, shape)?;
        let slot = Slot { path, gguf: None, shape: shape.to_vec(), role, layer: module.layer, turned: None };
        Ok::<_, Error>(Parameter { slot: Arc::new(slot), tensor, trained: true, off: None })
    };
    let (a, b) = match module.role {
        Role::Embedding => (
            part("lora_embedding_A", Role::EmbeddingA, &[module.n_out, *r])?,
            part("lora_embedding_B", Role::EmbeddingB, &[module.n_in, *r])?,
        ),
        _ => (
            part("lora_A.weight", Role::LoraA, &[*r, module.n_in])?,
            part("lora_B.weight", Role::LoraB, &[module.n_out, *r])?,
        ),
    };
    let b_bias = if target.bias { Some(part("lora_B.bias", Role::Bias, &[module.n_out])?) } else { None };
    let magnitude = match target.n_magnitudes() {
        0 => None,
        n => Some(part("lora_magnitude_vector", Role::Magnitude, &[n])?),
    };
    let dropout = config.lora_dropout as f32;
    Ok(Lora { a, b, b_bias, magnitude, factor: None, scale: *scale as f32, dropout, index })
}

/// DoRA's m as it starts: the lengths of the weight.
fn start_magnitude(weight: &Tensor, lora: &mut Option<Lora>) -> Result<()> {
    let Some(lora) = lora.as_mut().filter(|lora| lora.magnitude.is_some()) else { return Ok(()) };
    let start = dora::norms(weight, lora)?;
    if let Some(magnitude) = &mut lora.magnitude {
        magnitude.tensor = start;
    }
    Ok(())
}

impl Parameter {
    /// Is trained from here on, from `values` or its own; the base keeps what it was.
    fn train_whole(&mut self, device: &Device, values: Option<Vec<f32>>) -> Result<()> {
        let own = match values {
            Some(values) => Tensor::from_f32(device, values, self.tensor.shape())?,
            None => self.tensor.cast(DType::F32)?,
        };
        self.off = Some(std::mem::replace(&mut self.tensor, own));
        self.trained = true;
        Ok(())
    }
}

/// The rows `ids` of a module's matrix, to be trained by themselves; None for no rows.
fn token_rows(
    weight: &Parameter,
    module: &str,
    ids: &[u32],
    in_head: bool,
    values: &mut dyn AdapterValues,
) -> Result<Option<TokenRows>> {
    if ids.is_empty() {
        return Ok(None);
    }
    let (device, (n_rows, d)) = (weight.device(), weight.matrix());
    let slot = Slot {
        path: format!("{module}.token_adapter.trainable_tokens_delta"),
        gguf: None,
        shape: vec![ids.len(), d],
        role: Role::TokenRows,
        layer: None,
        turned: None,
    };
    let tensor = match values.whole(&slot, false)? {
        Some(values) => Tensor::from_f32(device, values, &slot.shape)?,
        None => {
            let index = RowIndex::new(&**device, ids)?;
            Tensor::from_buffer(device, device.gather_rows(weight.buffer(), &index, d)?, &slot.shape)
        }
    };
    let delta = Parameter { slot: Arc::new(slot), tensor, trained: true, off: None };
    TokenRows::new(delta, ids, n_rows, in_head).map(Some)
}

impl Decoder {
    /// Puts fresh LoRA layers beside every target of `config`; the model's output is unchanged until B (beside an embedding A)
    /// moves from zero.
    pub fn add_lora(&mut self, config: &AdapterConfig, seed: u64) -> Result<()> {
        self.place_adapter(config, &mut Fresh { seed })?;
        for layer in self.linears_mut() {
            start_magnitude(&layer.weight, &mut layer.lora)?;
        }
        let head = self.head_weight().tensor.clone();
        start_magnitude(&head, &mut self.head_lora)?;
        start_magnitude(&self.embed, &mut self.embed_lora)
    }

    /// Puts the layers of a saved adapter in place; every one of its tensors must have a place of its shape.
    pub fn load_adapter(&mut self, adapter: &Adapter) -> Result<()> {
        let mut saved = FromFile { left: adapter.tensors.iter().map(|(n, t)| (n.as_str(), t)).collect() };
        if let Some(score) = &mut self.score
            && let Some(values) = saved.take(SCORE, score.slot.shape.as_slice())?
        {
            score.tensor = Tensor::from_f32(&self.device, values, &score.slot.shape)?;
        }
        // PEFT writes the base's embedding and output layer beside their adapters.
        let base = [("model.embed_tokens", true), (OUTPUT, self.head.is_some())];
        for (module, own) in base {
            let name = format!("{module}.base_layer.weight");
            let wanted = [self.config.vocab_size, self.config.hidden_size];
            let Some(values) = saved.take(&name, &wanted)? else { continue };
            let parameter = match &mut self.head {
                Some(head) if module == OUTPUT => head,
                _ => &mut self.embed,
            };
            let same = parameter.cast(DType::F32)?.to_vec()? == values;
            if !same && !own {
                return Err(Error::Unsupported(format!("{name} differs from the embedding that it is tied to")));
            } else if !same {
                parameter.tensor = Tensor::from_f32(&self.device, values, &wanted)?;
            }
        }
        self.place_adapter(&adapter.config, &mut saved)?;
        match saved.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::Input(format!(
                "adapter tensor {name} has no place in this model ({} such)",
                saved.left.len()
            ))),
        }
    }

    /// Puts A and B beside every target of `config` and marks what is trained besides; that, and a reward model's head, is
    /// what is trained from here on.
    fn place_adapter(&mut self, config: &AdapterConfig, values: &mut dyn AdapterValues) -> Result<()> {
        let targets = config.targets(&self.config)?.into_iter().map(|target| (target.module.path.clone(), target));
        let mut targets: BTreeMap<String, Target> = targets.collect();
        for parameter in self.parameters_mut() {
            parameter.trained = parameter.slot.role == Role::Score;
        }
        self.check_tying(config, &targets)?;
        let (device, adapted) = (self.device.clone(), targets.keys().cloned().collect::<BTreeSet<_>>());
        let mut n_linears = 0;
        for (layer, index) in self.linears_mut().into_iter().zip(1..) {
            n_linears = index;
            if let Some(target) = targets.remove(layer.path()) {
                layer.lora = Some(lora_of(&target, index, config, &device, values)?);
            }
        }
        for (path, target) in targets {
            let (place, index) = match target.module.role {
                Role::Embedding => (&mut self.embed_lora, n_linears + 1),
                Role::Output => (&mut self.head_lora, n_linears + 2),
                _ => return Err(Error::Unsupported(format!("an adapter of {path}"))),
            };
            *place = Some(lora_of(&target, index, config, &device, values)?);
        }
        self.train_besides(config, &adapted, values)?;
        self.place_token_rows(config, values)
    }

    /// Puts rows that are trained by themselves in place; they start as the matrix has them.
    fn place_token_rows(&mut self, config: &AdapterConfig, values: &mut dyn AdapterValues) -> Result<()> {
        let tokens = config.token_targets(&self.config)?;
        self.embed_tokens = token_rows(&self.embed, "model.embed_tokens", &tokens.embedding, tokens.shared, values)?;
        self.head_tokens = token_rows(self.head_weight(), OUTPUT, &tokens.output, true, values)?;
        Ok(())
    }

    /// What is tied in the base is two things in its adapter; PEFT's ensure_weight_tying would have it otherwise.
    fn check_tying(&self, config: &AdapterConfig, targets: &BTreeMap<String, Target>) -> Result<()> {
        let whole = config.trained_whole(&self.config).into_iter().map(|slot| slot.role);
        let touched = whole.chain(targets.values().map(|t| t.module.role));
        let tied = self.head.is_none() && self.score.is_none();
        match config.ensure_weight_tying
            && tied
            && touched.into_iter().any(|r| matches!(r, Role::Embedding | Role::Output))
        {
            false => Ok(()),
            true => Err(Error::Unsupported(
                "ensure_weight_tying: one adapter for an embedding and the output layer that is tied to it".into(),
            )),
        }
    }

    /// Marks modules that are trained whole and biases. A tied output layer gets a copy of its own where it or the
    /// embedding is trained whole, for in PEFT the other keeps the base's values.
    fn train_besides(
        &mut self,
        config: &AdapterConfig,
        adapted: &BTreeSet<String>,
        values: &mut dyn AdapterValues,
    ) -> Result<()> {
        let device = self.device.clone();
        let whole = config.trained_whole(&self.config);
        if self.head.is_none()
            && self.score.is_none()
            && whole.iter().any(|s| matches!(s.role, Role::Embedding | Role::Output))
        {
            let slot = self.config.untied().slots().into_iter().find(|slot| slot.role == Role::Output);
            let tensor = self.embed.tensor.clone();
            self.head = slot.map(|slot| Parameter { slot: Arc::new(slot), tensor, trained: false, off: None });
        }
        let whole: BTreeSet<String> = whole.into_iter().map(|slot| slot.path).collect();
        for parameter in self.parameters_mut() {
            let (slot, module) = (parameter.slot.clone(), parameter.slot.module().to_string());
            let is_adapted = adapted.contains(&module);
            let bias = slot.role == Role::Bias
                && !slot.path.ends_with("lora_B.bias")
                && match config.bias {
                    Biases::None => false,
                    Biases::All => true,
                    Biases::LoraOnly => is_adapted,
                };
            if (whole.contains(&slot.path) || bias) && slot.role != Role::Score {
                parameter.train_whole(&device, values.whole(&slot, is_adapted)?)?;
            }
        }
        Ok(())
    }

    /// The adapter as host values, ready to save.
    pub fn adapter(&self, config: AdapterConfig) -> Result<Adapter> {
        let targets = config.targets(&self.config)?;
        let adapted: BTreeSet<&str> = targets.iter().map(|target| target.module.path.as_str()).collect();
        let host = |p: &Parameter| {
            let role = p.slot.role;
            let Named { name, shape } = Named::of(p.path(), role, p.shape(), adapted.contains(p.slot.module()));
            let values = p.to_vec()?;
            let values = if role == Role::EmbeddingA { transposed(&values, shape[1], shape[0]) } else { values };
            Ok((name, (shape, values)))
        };
        let tensors = self.trained().into_iter().map(host).collect::<Result<_>>()?;
        Ok(Adapter { config, tensors })
    }

    /// The base model: the same weights with the adapter off.
    pub fn without_adapter(&self) -> Decoder {
        let mut base = self.clone();
        base.linears_mut().into_iter().for_each(|layer| layer.lora = None);
        (base.embed_lora, base.head_lora, base.embed_tokens, base.head_tokens) = (None, None, None, None);
        if base.config.tie_word_embeddings {
            base.head = None;
        }
        for parameter in base.parameters_mut() {
            parameter.trained = true;
            if let Some(off) = parameter.off.take() {
                parameter.tensor = off;
            }
        }
        base
    }

    /// Folds the adapter into the weights: W ← W + s · B A, in f32, then back to the weight's own dtype. An output layer that was
    /// tied gets weights of its own where they are no longer the embedding's.
    pub fn merge_adapter(&mut self) -> Result<()> {
        let device = self.device.clone();
        let shared = self.embed_tokens.as_ref().is_none_or(TokenRows::in_head) && self.head_tokens.is_none();
        let parted = self.head_lora.is_some() || self.embed_lora.is_some() || !shared;
        if self.head.is_none() && self.score.is_none() && parted {
            let slot = self.config.untied().slots().into_iter().find(|slot| slot.role == Role::Output);
            let tensor = self.embed.tensor.clone();
            self.head = slot.map(|slot| Parameter { slot: Arc::new(slot), tensor, trained: true, off: None });
        }
        for layer in self.linears_mut() {
            let Some(lora) = layer.lora.take() else { continue };
            fold(&device, &mut layer.weight, &lora)?;
            let Some(b_bias) = &lora.b_bias else { continue };
            match &mut layer.bias {
                Some(bias) => bias.tensor = ops::add(&bias.tensor, &ops::scale(&b_bias.tensor, lora.scale)?)?,
                None => return Err(no_bias(layer.path())),
            }
        }
        self.merge_token_rows()?;
        if let (Some(head), Some(lora)) = (&mut self.head, self.head_lora.take()) {
            fold(&device, head, &lora)?;
            if lora.b_bias.is_some() {
                return Err(no_bias(OUTPUT));
            }
        }
        if let Some(lora) = self.embed_lora.take() {
            fold(&device, &mut self.embed, &lora)?;
        }
        if self.head.is_some() && self.config.tie_word_embeddings {
            self.config = Arc::new(self.config.untied());
        }
        for parameter in self.parameters_mut() {
            parameter.trained = true;
            if let Some(off) = parameter.off.take() {
                parameter.tensor = parameter.cast(off.dtype())?;
            }
        }
        Ok(())
    }

    /// Writes rows that were trained by themselves into their matrices.
    fn merge_token_rows(&mut self) -> Result<()> {
        let (embed, head) = (self.embed_tokens.take(), self.head_tokens.take());
        let of_head = head.as_ref().or(embed.as_ref().filter(|rows| rows.in_head()));
        if let (Some(weight), Some(rows)) = (&mut self.head, of_head) {
            weight.tensor = rows.put_into(weight)?.cast(weight.dtype())?;
        }
        if let Some(rows) = embed {
            self.embed.tensor = rows.put_into(&self.embed)?.cast(self.embed.dtype())?;
        }
        Ok(())
    }
}

fn no_bias(path: &str) -> Error {
    Error::Unsupported(format!("lora_bias cannot be folded into {path}, which has no bias; keep it as an adapter"))
}

/// W ← W + s · B A; of an embedding E ← E + s · A Bᵀ; DoRA's in `dora.rs`.
fn fold(device: &Device, weight: &mut Parameter, lora: &Lora) -> Result<()> {
    if let Some(magnitude) = &lora.magnitude {
        return dora::fold(weight, lora, magnitude);
    }
    let (dtype, (m, n), shape) = (weight.dtype(), weight.matrix(), weight.shape().to_vec());
    let (layout, left, right) = match lora.a.slot.role {
        Role::EmbeddingA => (Layout::NT, &lora.a, &lora.b),
        _ => (Layout::NN, &lora.b, &lora.a),
    };
    let product = Product { layout, m, n, k: left.matrix().1, alpha: lora.scale };
    let whole = weight.cast(DType::F32)?.into_buffer();
    let merged = device.matmul(product, left.buffer(), right.buffer(), Some(whole))?;
    weight.tensor = Tensor::from_buffer(device, merged, &shape).cast(dtype)?;
    Ok(())
}
