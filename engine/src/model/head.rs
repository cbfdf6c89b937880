//! What a decoder says about hidden rows: logits, log-probabilities of targets, rewards; with an adapter beside the output layer.
use super::block::scaled;
use super::decoder::{Decoder, Pass};
use super::dora;
use super::linear::DropoutKey;
use super::parameter::Parameter;
use super::token_rows::TokenRows;
use crate::backend::{Layout, Product, RowIndex};
use crate::error::{Error, Result};
use crate::ops::{self, HeadTerm, HeadTerms, Scored};
use crate::tensor::Tensor;
use std::sync::Arc;

impl Decoder {
    /// What the product with the output layer is divided by at a temperature.
    fn divisor(&self, temperature: f32) -> f32 {
        temperature * self.config.scales.logits as f32
    }

    pub(super) fn head_weight(&self) -> &Parameter {
        self.head.as_ref().unwrap_or(&self.embed)
    }

    /// Rows of the output layer that are trained by themselves: its own, or those of the embedding that it is tied to.
    fn head_rows(&self) -> Option<&TokenRows> {
        self.head_tokens.as_ref().or(self.embed_tokens.as_ref().filter(|rows| rows.in_head()))
    }

    /// x Wᵀ, with the rows that are trained by themselves.
    fn head_terms_of(&self, x: &Tensor) -> Result<Vec<HeadTerm>> {
        let w = self.head_weight();
        let mut terms = vec![HeadTerm { x: x.clone(), w: w.tensor.clone(), scale: 1.0 }];
        if let Some(rows) = self.head_rows() {
            terms.extend(rows.term(x, w)?);
        }
        Ok(terms)
    }

    /// What logits consist of: h Wᵀ + s (ĥ Aᵀ) Bᵀ + s b with ĥ = dropout(h); of DoRA, as in `dora.rs`,
    /// c ∘ (ĥ Wᵀ + s (ĥ Aᵀ) Bᵀ) + (h − ĥ) Wᵀ.
    fn head_terms(&self, h: &Tensor, dropout: Option<DropoutKey>) -> Result<HeadTerms> {
        let Some(lora) = &self.head_lora else {
            return Ok(HeadTerms { terms: self.head_terms_of(h)?, factor: None, rest: Vec::new() });
        };
        let dropout = dropout.filter(|_| lora.dropout > 0.0);
        let dropped = lora.dropped(h, dropout)?;
        let low = ops::linear(&dropped, &lora.a, None)?;
        let low = HeadTerm { x: low, w: lora.b.tensor.clone(), scale: lora.scale };
        let mut head = HeadTerms { terms: Vec::new(), factor: None, rest: Vec::new() };
        match &lora.magnitude {
            None => head.terms = self.head_terms_of(h)?,
            Some(magnitude) => {
                head.terms = self.head_terms_of(&dropped)?;
                head.factor = Some(dora::factor(self.head_weight(), lora, magnitude)?);
                if dropout.is_some() {
                    head.rest = self.head_terms_of(&ops::sub(h, &dropped)?)?;
                }
            }
        }
        head.terms.push(low);
        if let Some(bias) = &lora.b_bias {
            let n = h.matrix().0;
            let ones = Tensor::from_f32(&self.device, vec![1.0; n], &[n, 1])?;
            head.rest.push(HeadTerm { x: ones, w: bias.reshape(&[bias.len(), 1])?, scale: lora.scale });
        }
        Ok(head)
    }

    fn normed_rows(&self, hidden: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let index = Arc::new(RowIndex::new(&*self.device, rows)?);
        ops::rms_norm(&ops::gather_rows(hidden, &index)?, &self.norm, self.config.rms_norm_eps as f32)
    }

    /// What the model says about target i at row `rows[i]` of the hidden states: only rows that predict reach the head.
    pub fn score(&self, hidden: &Tensor, rows: &[u32], targets: &[u32], temperature: f32) -> Result<Scored> {
        self.score_in(Pass::default(), hidden, rows, targets, temperature)
    }

    /// [`Decoder::score`] in a training pass, which drops inputs of an adapter of the output layer, too.
    pub fn score_in(
        &self,
        pass: Pass,
        hidden: &Tensor,
        rows: &[u32],
        targets: &[u32],
        temperature: f32,
    ) -> Result<Scored> {
        let head = self.head_terms(&self.normed_rows(hidden, rows)?, pass.dropout)?;
        ops::adapted_lm_head(&head, targets, self.divisor(temperature))
    }

    /// Logits of some rows divided by `temperature`: [N, V]. The same products as [`Decoder::score`]'s, bit for bit.
    pub fn logits_at(&self, hidden: &Tensor, rows: &[u32], temperature: f32) -> Result<Tensor> {
        ops::head_logits(&self.head_terms(&self.normed_rows(hidden, rows)?, None)?, self.divisor(temperature))
    }

    /// All logits of some rows: [N, V]. For tests; training uses [`Decoder::score`].
    pub fn logits(&self, hidden: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let head = self.head_terms(&self.normed_rows(hidden, rows)?, None)?;
        let onto = |z: Option<Tensor>, term: &HeadTerm| match z {
            None => ops::linear(&term.x, &term.w, None).map(Some),
            Some(z) => ops::linear_onto(z, &term.x, &term.w, term.scale).map(Some),
        };
        let mut z = head.terms.iter().try_fold(None, onto)?;
        if let (Some(sum), Some(c)) = (&z, &head.factor) {
            z = Some(ops::mul(sum, c)?);
        }
        let z = head.rest.iter().try_fold(z, onto)?;
        scaled(z.ok_or_else(|| Error::shape("logits", "no product at all"))?, 1.0 / self.divisor(1.0))
    }

    /// A reward model's number for each of some rows: [N]. y = w · rms_norm(h).
    pub fn rewards(&self, hidden: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let Some(score) = &self.score else {
            return Err(Error::Unsupported(
                "the model has no score.weight: it is a language model, no reward model".into(),
            ));
        };
        ops::linear(&self.normed_rows(hidden, rows)?, score, None)?.reshape(&[rows.len()])
    }

    /// The mean logit of some rows over the vocabulary, a metric without a gradient: [N].
    /// (1/V) Σᵥ cᵥ h·wᵥ = h · (1/V) Σᵥ cᵥ wᵥ: the logits themselves are not needed.
    pub fn mean_logits(&self, hidden: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let model = self.without_gradient();
        let head = model.head_terms(&model.normed_rows(&hidden.detach(), rows)?, None)?;
        let v = model.head_weight().matrix().0;
        let even = Tensor::from_f32(&self.device, vec![1.0 / v as f32; v], &[1, v])?;
        let uneven = head.factor.as_ref().map(|c| ops::mul(&even, c)).transpose()?;
        let mean = |w: &Tensor, weights: &Tensor| -> Result<Tensor> {
            let product = Product { layout: Layout::NN, m: 1, n: w.matrix().1, k: v, alpha: 1.0 };
            let mean = self.device.matmul(product, weights.buffer(), w.buffer(), None)?;
            Ok(Tensor::from_buffer(&self.device, mean, &[1, w.matrix().1]))
        };
        let mut of_rows = None;
        for (i, term) in head.terms.iter().chain(&head.rest).enumerate() {
            let weights = uneven.as_ref().filter(|_| i < head.terms.len()).unwrap_or(&even);
            let mean = mean(&term.w, weights)?;
            of_rows = Some(match of_rows {
                None => ops::linear(&term.x, &mean, None)?,
                Some(sum) => ops::linear_onto(sum, &term.x, &mean, term.scale)?,
            });
        }
        let of_rows = of_rows.ok_or_else(|| Error::shape("mean_logits", "no product at all"))?;
        scaled(of_rows, 1.0 / self.divisor(1.0))?.reshape(&[rows.len()])
    }
}
