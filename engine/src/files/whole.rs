//! Whether files hold the model that their configuration describes, what they say better than it, and what is left over.
use super::{ModelFiles, weights};
use crate::config::{Head, Slot};
use crate::dtype::DType;
use crate::error::{Error, Result};
use std::collections::BTreeSet;

const EMBEDDING: &str = "model.embed_tokens.weight";
const OUTPUT: &str = "lm_head.weight";

/// Tensors that say nothing beyond the configuration: buffers that old versions of transformers saved, and the divisors of
/// rotary frequencies in GGUF files, which are read as a part of the configuration.
fn says_nothing(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name == "rope_freqs.weight"
}

impl ModelFiles {
    /// Takes the output layer as the tensors have it, checks that the model is whole, and notes what is not read.
    pub(super) fn settle(mut self) -> Result<Self> {
        let same = self.settle_output()?;
        self.check_tensors()?;
        let slots = self.config.slots();
        let known: BTreeSet<&str> = slots.iter().map(|slot| slot.path.as_str()).collect();
        let unread = self.weights.names().filter(|name| !known.contains(name) && !says_nothing(name));
        let unread: Vec<String> = unread.filter(|name| !(same && *name == OUTPUT)).map(str::to_string).collect();
        if !unread.is_empty() {
            self.notes.push(format!(
                "tensors that the configuration has no place for are not read: {} ({} in all)",
                first_few(&unread, ", "),
                unread.len()
            ));
        }
        Ok(self)
    }

    /// Where config.json ties the output layer to the embedding, the tensors decide, as in transformers 5: one that differs
    /// from the embedding is the model's own, and one that is there alone is both. Whether the file has both, the same.
    fn settle_output(&mut self) -> Result<bool> {
        let tied = self.config.tie_word_embeddings && self.config.head == Head::LanguageModel;
        if !tied || !self.weights.contains(OUTPUT) {
            return Ok(false);
        }
        if !self.weights.contains(EMBEDDING) {
            self.weights.rename(OUTPUT, EMBEDDING);
            return Ok(false);
        }
        let same = self.weights.equal(EMBEDDING, OUTPUT)?;
        self.weights.release_pages();
        if same {
            return Ok(true);
        }
        self.config.tie_word_embeddings = false;
        self.notes.push(format!(
            "config.json ties the output layer to the embedding, but {OUTPUT} differs from it: they are taken as two"
        ));
        Ok(false)
    }

    /// Compares the tensors on disk with those the configuration asks for; one error names what differs.
    fn check_tensors(&self) -> Result<()> {
        let (mut missing, mut misshaped) = (Vec::new(), Vec::new());
        let expected = self.config.slots();
        for Slot { path: name, shape, .. } in &expected {
            if !self.weights.contains(name) {
                missing.push(name.clone());
                continue;
            }
            let found = self.weights.shape(name)?;
            if found != shape {
                misshaped.push(format!("{name} is {found:?}, {shape:?} is needed"));
            }
        }
        let mut problems = Vec::new();
        if !missing.is_empty() {
            let n = expected.len();
            problems.push(format!("{} of {n} tensors are missing: {}", missing.len(), first_few(&missing, ", ")));
        }
        if !misshaped.is_empty() {
            problems.push(format!(
                "{} have other shapes than the configuration says: {}",
                misshaped.len(),
                first_few(&misshaped, "; ")
            ));
        }
        if !problems.is_empty() {
            return Err(Error::file(&self.path, problems.join(". ")));
        }
        for Slot { path: name, .. } in &expected {
            if self.weights.dtype(name)? == DType::U32 {
                let detail = format!("tensor {name} holds whole numbers; supported are {}", weights::SUPPORTED_TYPES);
                return Err(Error::file(&self.path, detail));
            }
        }
        Ok(())
    }
}

fn first_few(items: &[String], separator: &str) -> String {
    let mut text = items.iter().take(4).cloned().collect::<Vec<_>>().join(separator);
    if items.len() > 4 {
        text.push_str(" …");
    }
    text
}
