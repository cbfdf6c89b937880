//! A judge: a language model that says by the principles of a constitution which of two answers is better, or whether
//! one is good. Y. Bai et al., "Constitutional AI", 2022, §4; L. Zheng et al., "Judging LLM-as-a-judge", 2023, §3.
//!
//! It is asked for a letter, A or B, and nothing is drawn: what counts is by how much one letter is likelier than the
//! other. Everything is asked twice, the second time in the other order, so that a liking for one place cancels out: where
//! the orders disagree there is no verdict, or their mean decides ([`VerdictRule`]).
use crate::data::Sequence;
use crate::error::{Error, Result};
use crate::job::batch::Batch;
use crate::job::need::{self, Use};
use crate::job::scoring::log_probabilities;
use crate::job::setup::{self, ModelSource};
use crate::options::{VerdictRule, WeightType, base_of};
use crate::run::durable::hash_file;
use crate::text::jinja::{LocalTime, Template, TemplateError};
use crate::text::{RenderInput, Tokenizer};
use engine::backend::Device;
use engine::config::Head;
use engine::model::decoder::Decoder;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is asked unless a template says otherwise. It sees `constitution`, `prompt`, `completions` (two to compare, or
/// one) and, for one, the two `options` that A and B stand for.
pub const TEMPLATE: &str = "\
{{ constitution }}

Prompt:
{{ prompt }}

{% if completions|length == 2 %}Answer A:
{{ completions[0] }}

Answer B:
{{ completions[1] }}

Which answer follows the principles above better, A or B? Reply with the letter alone.{% else %}Answer:
{{ completions[0] }}

Is this answer good by the principles above? A: {{ options[0] }}. B: {{ options[1] }}. Reply with the letter alone.{% endif %}";
/// What comes before the letter where the model has no chat template.
const CUE: &str = "\nThe better choice:";
/// What A and B stand for where one answer is judged.
const OPTIONS: [&str; 2] = ["yes", "no"];

/// A judge, ready to judge.
pub struct Judge {
    model: Decoder,
    tokenizer: Tokenizer,
    template: Template,
    constitution: String,
    /// What the two orders of a pair come to.
    pub rule: VerdictRule,
    /// SHA-256 of the constitution's file.
    pub constitution_hash: String,
    /// Where the model was opened from, for messages.
    pub path: String,
}

/// log P(first better) − log P(second better): the answers in the order given, and in the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Asked with the first answer as A.
    pub given: f64,
    /// Asked with the first answer as B; of the same sign as `given` where the orders agree.
    pub swapped: f64,
}

/// What is judged: two completions of a prompt, or one.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What was asked, as the judge reads it.
    pub prompt: String,
    /// One to grade, or two to compare: the first is the one that verdicts speak of.
    pub completions: Vec<String>,
}

impl Verdict {
    /// TRL's rank of a pair: 0 if the first is better, 1 if the second, −1 for a tie: where the orders disagree, or where
    /// their mean is 0.
    pub fn rank(&self, rule: VerdictRule) -> i32 {
        let (low, high) = match rule {
            VerdictRule::Agree => (self.given.min(self.swapped), self.given.max(self.swapped)),
            VerdictRule::Average => (self.log_odds(), self.log_odds()),
        };
        match (low > 0.0, high < 0.0) {
            (true, _) => 0,
            (_, true) => 1,
            _ => -1,
        }
    }
    /// The log-odds with the liking for a place taken out.
    pub fn log_odds(&self) -> f64 {
        0.5 * (self.given + self.swapped)
    }
    /// The liking for the first place, in the same unit.
    pub fn bias(&self) -> f64 {
        0.5 * (self.given - self.swapped)
    }
}

/// A prompt or answer of a row as the judge reads it: a text, or a conversation with its roles.
pub fn readable(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(messages) => {
            let one = |m: &Value| {
                let content = m["content"].as_str().map_or_else(|| m["content"].to_string(), String::from);
                match (messages.len(), m["role"].as_str()) {
                    (1, _) | (_, None) => content,
                    (_, Some(role)) => format!("{role}: {content}"),
                }
            };
            messages.iter().map(one).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

/// The principles in a file, without surrounding blanks, and the file's hash.
pub fn read_constitution(path: &Path) -> Result<(String, String)> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, format!("constitution: {e}")))?;
    if text.trim().is_empty() {
        return Err(Error::file(path, "the constitution is empty; write down what answers are judged by"));
    }
    Ok((text.trim().to_string(), hash_file(path)?.sha256))
}

/// A template of questions from a file, or `otherwise`; `sees` is tried on it so that mistakes are told at once.
pub fn open_template(path: Option<&Path>, otherwise: &str, sees: &[Value]) -> Result<Template> {
    let (source, shown) = match path {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, format!("template: {e}")))?;
            (text, path.display().to_string())
        }
        None => (otherwise.to_string(), "template".into()),
    };
    let template = Template::plain(&source).map_err(|e| wrong(&shown, &e))?;
    for context in sees {
        let text = fill(&template, context)?;
        if let Some(lost) = lost(context, &text) {
            return Err(Error::Input(format!("{shown}: the question does not show {{{{ {lost} }}}}")));
        }
    }
    Ok(template)
}

/// The name of a value that is a text of its own and does not occur in the rendered question.
fn lost(context: &Value, text: &str) -> Option<String> {
    let fields = context.as_object()?;
    let shows = |value: &Value| match value {
        Value::String(s) => text.contains(s.as_str()),
        Value::Array(list) => list.iter().all(|s| s.as_str().is_none_or(|s| text.contains(s))),
        _ => true,
    };
    fields.iter().find(|(name, value)| *name != "options" && !shows(value)).map(|(name, _)| name.clone())
}

fn wrong(shown: &str, error: &TemplateError) -> Error {
    let line = error.line.map_or(String::new(), |line| format!("line {line}: "));
    Error::Input(format!("{shown}: {line}{}", error.message.replace('\n', " ")))
}

/// A question from a template.
pub fn fill(template: &Template, sees: &Value) -> Result<String> {
    let names = sees.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value));
    let printed = template.render(names, LocalTime::default(), true).map_err(|e| wrong("template", &e))?;
    Ok(printed.text)
}

impl Judge {
    /// Opens a model as a judge. Errors: a reward model, an empty constitution, a template that leaves something out, a
    /// tokenizer that does not know the two letters apart.
    pub fn open(
        path: &str,
        adapter: Option<&Path>,
        constitution: &Path,
        template: Option<&Path>,
        rule: VerdictRule,
        (device, dtype): (&Device, WeightType),
    ) -> Result<Self> {
        let (constitution, constitution_hash) = read_constitution(constitution)?;
        let mark = |i: usize| format!("\u{1}{i}\u{1}");
        let sees = |n: usize| {
            let completions: Vec<String> = (0..n).map(|i| mark(i + 1)).collect();
            json!({"constitution": constitution, "prompt": mark(0), "completions": completions, "options": OPTIONS})
        };
        let template = open_template(template, TEMPLATE, &[sees(1), sees(2)])?;
        let base = base_of(path)?.filter(|_| adapter.is_none());
        let (given, adapter) = (path, adapter.or(base.as_ref().map(|_| Path::new(path))));
        let path = base.as_deref().unwrap_or(path);
        let ModelSource { files, tokenizer } = setup::open_with(path, adapter)?;
        if files.config.head == Head::Score {
            return Err(Error::Input(format!(
                "{path}: a reward model; a judge is a language model (rewards take it as model:{path})"
            )));
        }
        let head = files.config.head;
        let adapter = adapter.map(|path| setup::load_adapter(path, head)).transpose()?;
        need::check_use(&files, dtype.dtype(), adapter.as_ref(), device, Use::Measure((0, 0)))?;
        let mut model = Decoder::load(&files, device, dtype.dtype())?;
        if let Some(adapter) = &adapter {
            model.load_adapter(adapter)?;
        }
        let path = given.to_string();
        let judge = Judge { model, tokenizer, template, constitution, rule, constitution_hash, path };
        judge.letters("?")?;
        Ok(judge)
    }

    /// Judges cases, a batch of a few at a time; None where a question does not fit the judge's context.
    pub fn judge(&self, cases: &[Case], batch_size: usize) -> Result<Vec<Option<Verdict>>> {
        let mut all = Vec::with_capacity(cases.len());
        for chunk in cases.chunks(batch_size.max(1)) {
            let questions: Vec<[[Sequence; 2]; 2]> =
                chunk.iter().map(|case| self.both_orders(case)).collect::<Result<_>>()?;
            let context = self.model.config.max_position_embeddings;
            let fits = |q: &[[Sequence; 2]; 2]| q.iter().flatten().all(|s| s.ids.len() <= context);
            let asked: Vec<&Sequence> = questions.iter().filter(|q| fits(q)).flatten().flatten().collect();
            let mut found = self.log_probabilities(&asked)?.into_iter();
            let mut odds = || found.next().unwrap_or(f64::NAN) - found.next().unwrap_or(f64::NAN);
            for question in &questions {
                // A and B in the order given; in the other order B is the first.
                all.push(fits(question).then(|| Verdict { given: odds(), swapped: -odds() }));
            }
        }
        Ok(all)
    }

    /// The question in both orders, each with A and with B as its answer.
    fn both_orders(&self, case: &Case) -> Result<[[Sequence; 2]; 2]> {
        let ask = |swapped: bool| {
            let (mut completions, mut options) = (case.completions.clone(), OPTIONS.to_vec());
            if swapped {
                completions.reverse();
                options.reverse();
            }
            self.letters(&fill(
                &self.template,
                &json!({"constitution": self.constitution, "prompt": case.prompt, "completions": completions, "options": options}),
            )?)
        };
        Ok([ask(false)?, ask(true)?])
    }

    /// A question followed by A and by B, as tokens; the answer is where the two part.
    fn letters(&self, question: &str) -> Result<[Sequence; 2]> {
        let with = |letter: &str| -> Result<Vec<u32>> {
            if !self.tokenizer.has_chat_template() {
                return self.tokenizer.encode(&format!("{question}{CUE} {letter}"));
            }
            let messages = [json!({"role": "user", "content": question})];
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
            let input = RenderInput { messages: &messages, add_generation_prompt: true, ..Default::default() };
            let text = self.tokenizer.chat_templates(now)?.render(&input)?.text;
            self.tokenizer.encode_rendered(&format!("{text}{letter}"))
        };
        let (a, b) = (with("A")?, with("B")?);
        let start = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
        if start == 0 || start >= a.len().min(b.len()) {
            let detail = "its tokenizer does not tell the letters A and B apart, which a judge answers with";
            return Err(Error::Input(format!("{}: {detail}", self.path)));
        }
        Ok([Sequence { ids: a, start }, Sequence { ids: b, start }])
    }

    /// log P of each sequence's answer; neighbours share their question.
    fn log_probabilities(&self, sequences: &[&Sequence]) -> Result<Vec<f64>> {
        let mut sums = vec![0.0; sequences.len()];
        if sequences.is_empty() {
            return Ok(sums);
        }
        let batch = Batch::from_answers(sequences, true, false)?;
        need::check_batch(&self.model, (batch.n_tokens(), batch.n_items()))?;
        let logp = log_probabilities(&self.model, &batch, 1.0)?.to_vec()?;
        logp.iter().zip(&batch.sequences).for_each(|(p, s)| sums[*s as usize] += f64::from(*p));
        Ok(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_that_changes_with_the_order_is_a_tie_or_their_mean() {
        let all = [(1.0, 0.5), (-1.0, -0.1), (2.0, -0.1), (-1.0, 3.0), (-2.0, 1.0), (0.0, 0.0), (1.0, -1.0)];
        let ranks = |rule| all.map(|(given, swapped)| Verdict { given, swapped }.rank(rule));
        assert_eq!(ranks(VerdictRule::Agree), [0, 1, -1, -1, -1, -1, -1]);
        assert_eq!(ranks(VerdictRule::Average), [0, 1, 0, 0, 1, -1, -1]);
        assert_eq!(Verdict { given: f64::NAN, swapped: f64::NAN }.rank(VerdictRule::Average), -1);
        let verdict = Verdict { given: 3.0, swapped: 1.0 };
        assert_eq!((verdict.log_odds(), verdict.bias()), (2.0, 1.0));
    }

    fn golden(path: &str) -> String {
        format!("{}/../tests/golden/{path}", env!("CARGO_MANIFEST_DIR"))
    }

    fn constitution(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn open(model: &str, principles: &str, template: Option<&str>) -> Result<Judge> {
        let device: Device = std::sync::Arc::new(engine::reference::Reference);
        let template = template.map(constitution);
        let template = template.as_ref().map(|f| f.path());
        let with = (&device, WeightType::Auto);
        Judge::open(&golden(model), None, constitution(principles).path(), template, VerdictRule::Agree, with)
    }

    fn case(completions: &[&str]) -> Case {
        Case { prompt: "Why?".into(), completions: completions.iter().map(|c| c.to_string()).collect() }
    }

    /// Swapping the answers turns the verdict's sign to the bit, and neighbours change nothing.
    #[test]
    fn orders_cancel_and_neighbours_do_not_matter() {
        let judge = open("models/llama", "Be brief.", None).unwrap();
        let cases = [case(&["So.", "Because it is so."]), case(&["Because it is so.", "So."]), case(&["So."])];
        let found = judge.judge(&cases, 8).unwrap();
        let [Some(a), Some(b), Some(alone)] = found[..] else { panic!("{found:?}") };
        assert_eq!((a.given, a.swapped), (-b.swapped, -b.given));
        assert_ne!(a.given, a.swapped);
        assert_eq!(judge.judge(&cases[2..], 1).unwrap(), [Some(alone)]);
        assert_eq!(judge.judge(&[case(&["x", "x"])], 1).unwrap()[0].unwrap().rank(VerdictRule::Agree), -1);
    }

    #[test]
    fn what_is_wrong_with_a_judge_is_told() {
        let told = |r: Result<Judge>| r.map(|_| ()).unwrap_err().to_string();
        assert!(told(open("models/llama", " \n", None)).contains("the constitution is empty"));
        assert!(
            told(open("models/llama-reward", "Be brief.", None))
                .contains("a reward model; a judge is a language model")
        );
        let template = Some("{{ constitution }} {{ prompt }} {{ completions[0] }}");
        assert!(told(open("models/llama", "Be brief.", template)).contains("does not show {{ completions }}"));
        let template = Some("{{ constitution }}\n{{ promt }}");
        let said = told(open("models/llama", "Be brief.", template));
        assert!(said.contains("line 2: 'promt' is undefined"), "{said}");
    }

    #[test]
    fn conversations_are_readable() {
        assert_eq!(readable(&json!("a")), "a");
        assert_eq!(readable(&json!([{"role": "assistant", "content": "a"}])), "a");
        let two = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
        assert_eq!(readable(&two), "user: a\nassistant: b");
    }
}
