//! The Modelfile from which `ollama create` makes a model of a GGUF file.
use engine::config::GenerationConfig;

/// What is said besides the weights' place.
pub struct Modelfile<'a> {
    /// The GGUF file's name, beside which the Modelfile stands.
    pub file_name: &'a str,
    /// The chat template in Go.
    pub template: Option<String>,
    /// Texts that end an answer.
    pub stops: Vec<String>,
    /// How the model's makers draw from it.
    pub generation: &'a GenerationConfig,
}

impl Modelfile<'_> {
    /// The file's text.
    pub fn text(&self) -> String {
        let mut out = format!("FROM ./{}\n", self.file_name);
        if let Some(template) = &self.template {
            out += "# Ollama does not run the Jinja template in the GGUF file. This one prints the same.\n";
            out += &format!("TEMPLATE \"\"\"{template}\"\"\"\n");
        }
        for stop in &self.stops {
            out += &format!("PARAMETER stop {}\n", quoted(stop));
        }
        for (name, value) in self.drawing() {
            out += &format!("PARAMETER {name} {value}\n");
        }
        out
    }

    /// Ollama's names for how tokens are drawn, as far as generation_config.json says it.
    fn drawing(&self) -> Vec<(&'static str, String)> {
        let said = self.generation;
        let likeliest = (said.do_sample == Some(false)).then_some(0.0);
        let number = |x: Option<f64>| x.map(|x| x.to_string());
        let count = |n: Option<usize>| n.map(|n| n.to_string());
        let all = [
            ("temperature", number(likeliest.or(said.temperature))),
            ("top_k", count(said.top_k)),
            ("top_p", number(said.top_p)),
            ("min_p", number(said.min_p)),
            ("repeat_penalty", number(said.repetition_penalty)),
            ("num_predict", count(said.max_new_tokens)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// A text with blanks in a Modelfile; one with quotes or line ends stands in three quotes.
fn quoted(text: &str) -> String {
    if text.contains(['"', '\n', '\r']) { format!("\"\"\"{text}\"\"\"") } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_line() {
        let generation = GenerationConfig { temperature: Some(0.6), top_k: Some(20), ..Default::default() };
        let mut file = Modelfile {
            file_name: "m.gguf",
            template: Some("{{ .Prompt }}".into()),
            stops: vec!["<|im_end|>".into()],
            generation: &generation,
        };
        let lines = [
            "FROM ./m.gguf",
            "# Ollama does not run the Jinja template in the GGUF file. This one prints the same.",
            "TEMPLATE \"\"\"{{ .Prompt }}\"\"\"",
            "PARAMETER stop \"<|im_end|>\"",
            "PARAMETER temperature 0.6",
            "PARAMETER top_k 20",
        ];
        assert_eq!(file.text(), lines.join("\n") + "\n");
        file.template = None;
        let greedy = GenerationConfig { do_sample: Some(false), ..generation.clone() };
        file.generation = &greedy;
        assert!(file.text().starts_with("FROM ./m.gguf\nPARAMETER stop") && file.text().contains("temperature 0\n"));
    }
}
