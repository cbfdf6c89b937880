//! Rows of the embedding, or of the output layer, that are trained by themselves: PEFT's `trainable_token_indices`.
//!
//! ```text
//! E' = E with δ[j] in row ids[j]                                  δ [k, D]
//! h E'ᵀ = h Eᵀ + (h (δ − E[ids])ᵀ) Pᵀ                             P [V, k], P[ids[j], j] = 1, else 0
//! ```
//! A look-up takes δ's rows as they are. In the output layer they are a second product of rank k, so that the frozen matrix
//! keeps its type and nothing of its size is copied or has a gradient.
use super::parameter::{Parameter, walk};
use crate::backend::{Device, RowIndex};
use crate::error::Result;
use crate::ops::{self, HeadTerm};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows that stand in for some of a frozen matrix's.
#[derive(Clone, Debug)]
pub struct TokenRows {
    /// δ [k, D]
    pub delta: Parameter,
    ids: Arc<RowIndex>,
    /// P, where the output layer has these rows: [V, k].
    places: Option<Tensor>,
    /// δ − E[ids] where nothing of it is trained any more.
    change: Option<Tensor>,
}
walk!(TokenRows { delta });

impl TokenRows {
    /// `delta` in the rows `ids` of a matrix with `n_rows` rows; `in_head`: the output layer has them.
    pub(crate) fn new(delta: Parameter, ids: &[u32], n_rows: usize, in_head: bool) -> Result<Self> {
        let (device, k) = (delta.device().clone(), ids.len());
        let places = |device: &Device| {
            let mut values = vec![0.0; n_rows * k];
            for (j, &id) in ids.iter().enumerate() {
                if let Some(place) = values.get_mut(id as usize * k + j) {
                    *place = 1.0;
                }
            }
            Tensor::from_f32(device, values, &[n_rows, k])
        };
        let places = if in_head { Some(places(&device)?) } else { None };
        let ids = Arc::new(RowIndex::new(&*device, ids)?);
        Ok(TokenRows { delta, ids, places, change: None })
    }

    /// Whether the output layer has these rows.
    pub(crate) fn in_head(&self) -> bool {
        self.places.is_some()
    }

    /// E'[tokens]: [T, D] of E [V, D].
    pub(crate) fn looked_up(&self, table: &Tensor, tokens: &[u32]) -> Result<Tensor> {
        let rows: BTreeMap<u32, u32> = self.ids.rows.iter().copied().zip(0..).collect();
        // (places in the batch, rows of the table) of what each of the two tables gives.
        let (mut ours, mut others) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for (place, token) in (0..).zip(tokens) {
            let (part, row) = match rows.get(token) {
                Some(row) => (&mut ours, row),
                None => (&mut others, token),
            };
            part.0.push(place);
            part.1.push(*row);
        }
        let spread = |table: &Tensor, (places, rows): (Vec<u32>, Vec<u32>)| -> Result<Option<Tensor>> {
            if rows.is_empty() {
                return Ok(None);
            }
            let index = |rows: &[u32]| Ok::<_, crate::Error>(Arc::new(RowIndex::new(&**table.device(), rows)?));
            let x = ops::gather_rows(table, &index(&rows)?)?;
            ops::sum_by_group(&x, &index(&places)?, tokens.len()).map(Some)
        };
        match (spread(table, others)?, spread(&self.delta, ours)?) {
            (Some(x), Some(own)) => ops::add(&x, &own),
            (Some(x), None) | (None, Some(x)) => Ok(x),
            (None, None) => ops::gather_rows(table, &Arc::new(RowIndex::new(&**table.device(), tokens)?)),
        }
    }

    /// δ − E[ids]: [k, D].
    fn change(&self, table: &Tensor) -> Result<Tensor> {
        match &self.change {
            Some(known) => Ok(known.clone()),
            None => ops::sub(&self.delta, &ops::gather_rows(&table.detach(), &self.ids)?),
        }
    }

    /// The same rows of a model that is only generated with, whose output layer may hold its matrix in another order.
    pub(crate) fn for_generation(&self, table: &Tensor) -> Result<TokenRows> {
        Ok(TokenRows { change: Some(self.change(table)?.detach()), ..self.clone() })
    }

    /// What these rows change of x Eᵀ: (x (δ − E[ids])ᵀ) Pᵀ. None where the output layer does not have them.
    pub(crate) fn term(&self, x: &Tensor, table: &Tensor) -> Result<Option<HeadTerm>> {
        let Some(places) = &self.places else { return Ok(None) };
        Ok(Some(HeadTerm { x: ops::linear(x, &self.change(table)?, None)?, w: places.clone(), scale: 1.0 }))
    }

    /// E' itself, float32, without a gradient: [V, D].
    pub(crate) fn put_into(&self, table: &Tensor) -> Result<Tensor> {
        let (device, (n, d)) = (table.device(), table.matrix());
        let every: Vec<u32> = (0..n as u32).collect();
        // Gathered, so that nobody else holds the memory that is written to.
        let mut whole = device.gather_rows(table.buffer(), &RowIndex::new(&**device, &every)?, d)?;
        device.write_rows(&mut whole, self.delta.buffer(), &self.ids, d)?;
        Ok(Tensor::from_buffer(device, whole, table.shape()))
    }
}
