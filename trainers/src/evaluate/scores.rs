//! Metrics: what each row counts, and what all of them come to, with standard errors.
use super::prompting::{Prompts, TaskRow, as_text};
use super::requests::Response;
use super::task_file::{EvalTask, Ignored, MetricEntry, OutputType};
use crate::error::{Error, Result};
use fancy_regex::Regex;
use serde_json::{Value, json};

/// A metric of lm-eval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// The likeliest choice is right; of a single target: every token is the likeliest.
    Acc,
    /// The choice with the largest log p a character is right.
    AccNorm,
    /// The choice with the largest log p a byte is right.
    AccBytes,
    /// The choice that gains most by the question, log p(choice | question) − log p(choice), is right.
    AccMutualInfo,
    /// The answer is the right one; of choices: every token of the right one is the likeliest.
    ExactMatch,
    /// Σ (p − 1[right])² over the choices, p their softmax.
    BrierScore,
    /// F₁ of choice 1 over all rows.
    F1,
    /// Matthews' correlation of chosen and right over all rows.
    Mcc,
    /// exp of minus the mean log p.
    Perplexity,
    /// exp of minus Σ log p / Σ words.
    WordPerplexity,
    /// exp of minus Σ log p / Σ bytes.
    BytePerplexity,
    /// − Σ log p / Σ bytes / ln 2.
    BitsPerByte,
}

use MetricKind::*;

/// Names, and for which output types each is computed.
const NAMED: [(&str, MetricKind, &[OutputType]); 12] = [
    ("acc", Acc, &[OutputType::MultipleChoice, OutputType::LogLikelihood]),
    ("acc_norm", AccNorm, &[OutputType::MultipleChoice]),
    ("acc_bytes", AccBytes, &[OutputType::MultipleChoice]),
    ("acc_mutual_info", AccMutualInfo, &[OutputType::MultipleChoice]),
    ("exact_match", ExactMatch, &[OutputType::MultipleChoice, OutputType::GenerateUntil]),
    ("brier_score", BrierScore, &[OutputType::MultipleChoice]),
    ("f1", F1, &[OutputType::MultipleChoice]),
    ("mcc", Mcc, &[OutputType::MultipleChoice]),
    ("perplexity", Perplexity, &[OutputType::LogLikelihood]),
    ("word_perplexity", WordPerplexity, &[OutputType::LogLikelihoodRolling]),
    ("byte_perplexity", BytePerplexity, &[OutputType::LogLikelihoodRolling]),
    ("bits_per_byte", BitsPerByte, &[OutputType::LogLikelihoodRolling]),
];

impl MetricKind {
    /// By its name; None where it is not computed for this output type.
    pub fn of(name: &str, output_type: OutputType) -> Option<MetricKind> {
        NAMED.iter().find(|(own, _, types)| *own == name && types.contains(&output_type)).map(|(_, kind, _)| *kind)
    }

    /// Those that are computed for an output type.
    pub fn names(output_type: OutputType) -> Vec<&'static str> {
        NAMED.iter().filter(|(.., types)| types.contains(&output_type)).map(|(name, ..)| *name).collect()
    }
}

/// What one row counts.
#[derive(Clone, Debug, PartialEq)]
pub enum RowCount {
    /// A number.
    Number(f64),
    /// A sum and what it is divided by.
    Weighted(f64, f64),
    /// (right, chosen).
    Labels(i64, i64),
}

impl RowCount {
    /// For a file of samples.
    pub fn to_json(&self) -> Value {
        match self {
            RowCount::Number(x) => json!(x),
            RowCount::Weighted(sum, weight) => json!([sum, weight]),
            RowCount::Labels(right, chosen) => json!([right, chosen]),
        }
    }
}

/// A row's counts by metric.
pub type PerRow = Vec<(String, RowCount)>;

/// A metric over all rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregated {
    /// The metric.
    pub metric: String,
    /// The filter that the answers went through.
    pub filter: String,
    /// Its value.
    pub value: f64,
    /// Its standard error, where it has one: of a mean s / √n with the sample's deviation s; of a perplexity by the delta
    /// method.
    pub stderr: Option<f64>,
}

/// The place of the largest, the first of several.
fn argmax(values: &[f64]) -> usize {
    let above = |best: usize, i: usize| if values[i] > values[best] { i } else { best };
    (1..values.len()).fold(0, above)
}

/// Counts a row. `filtered`: what the filters have left of each answer.
pub fn of_row(
    task: &EvalTask,
    prompts: &Prompts,
    row: &TaskRow,
    answers: &[Response],
    filtered: &[Value],
) -> Result<PerRow> {
    match task.output_type {
        OutputType::MultipleChoice => of_choices(task, prompts, row, answers),
        OutputType::GenerateUntil => of_text(task, prompts, row, filtered),
        OutputType::LogLikelihood => {
            let (logp, greedy) = likelihood(answers.first())?;
            let of = |metric: &MetricEntry| match metric.kind {
                Acc => RowCount::Number(f64::from(u8::from(greedy))),
                _ => RowCount::Number(logp),
            };
            Ok(named(task, of))
        }
        OutputType::LogLikelihoodRolling => {
            let (logp, _) = likelihood(answers.first())?;
            let text = as_text(&prompts.target(row)?);
            let (words, bytes) = (n_words(&text) as f64, text.len() as f64);
            let of = |metric: &MetricEntry| {
                RowCount::Weighted(logp, if metric.kind == WordPerplexity { words } else { bytes })
            };
            Ok(named(task, of))
        }
    }
}

fn named(task: &EvalTask, of: impl Fn(&MetricEntry) -> RowCount) -> PerRow {
    task.metrics.iter().map(|metric| (metric.name.clone(), of(metric))).collect()
}

fn likelihood(answer: Option<&Response>) -> Result<(f64, bool)> {
    match answer {
        Some(Response::Likelihood(logp, greedy)) => Ok((*logp, *greedy)),
        _ => Err(Error::internal("a likelihood is missing")),
    }
}

/// Parts of a text between runs of white space, empty ones at its ends included: Python's `re.split(r"\s+", text)`.
fn n_words(text: &str) -> usize {
    let ends = [text.starts_with(char::is_whitespace), text.ends_with(char::is_whitespace)];
    match text.split_whitespace().count() {
        0 => 1 + usize::from(!text.is_empty()),
        n => n + ends.into_iter().filter(|end| *end).count(),
    }
}

fn of_choices(task: &EvalTask, prompts: &Prompts, row: &TaskRow, answers: &[Response]) -> Result<PerRow> {
    let choices = prompts.choices(row)?;
    let all: Vec<(f64, bool)> = answers.iter().map(|answer| likelihood(Some(answer))).collect::<Result<_>>()?;
    let n = choices.len();
    if all.len() < n || n == 0 {
        return Err(Error::internal("fewer answers than choices"));
    }
    let logp: Vec<f64> = all[..n].iter().map(|(logp, _)| *logp).collect();
    let per = |length: &dyn Fn(&str) -> usize| {
        let divided: Vec<f64> = logp.iter().zip(&choices).map(|(logp, choice)| logp / length(choice) as f64).collect();
        argmax(&divided)
    };
    let place = |value: &Value| match value {
        Value::Number(number) => number.as_u64().map(|i| i as usize).filter(|&i| i < n),
        Value::String(text) => choices.iter().position(|choice| choice == text),
        _ => None,
    };
    let gold: Vec<usize> = match prompts.gold(row)? {
        Value::Array(several) => several.iter().filter_map(place).collect(),
        one => place(&one).into_iter().collect(),
    };
    let right = |chosen: usize| RowCount::Number(f64::from(u8::from(gold.contains(&chosen))));
    let first = gold.first().map_or(-100, |&i| i as i64);
    let of = |metric: &MetricEntry| match metric.kind {
        AccNorm => right(per(&|choice| choice.chars().count())),
        AccBytes => right(per(&str::len)),
        AccMutualInfo => {
            let gain: Vec<f64> = logp.iter().zip(&all[n..]).map(|(with, (without, _))| with - without).collect();
            right(argmax(&gain))
        }
        ExactMatch => RowCount::Number(f64::from(u8::from(gold.iter().any(|&i| all[i].1)))),
        BrierScore => RowCount::Number(brier(&logp, first)),
        F1 | Mcc => RowCount::Labels(first, argmax(&logp) as i64),
        _ => right(argmax(&logp)),
    };
    Ok(named(task, of))
}

/// Σ (softmax(log p) − 1[right])².
fn brier(logp: &[f64], right: i64) -> f64 {
    let top = logp.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logp.iter().map(|x| (x - top).exp()).sum();
    let term = |(i, x): (usize, &f64)| ((x - top).exp() / total - f64::from(u8::from(i as i64 == right))).powi(2);
    logp.iter().enumerate().map(term).sum()
}

fn of_text(task: &EvalTask, prompts: &Prompts, row: &TaskRow, filtered: &[Value]) -> Result<PerRow> {
    let answer = filtered.first().map(as_text).unwrap_or_default();
    let target = prompts.target(row)?;
    let gold: Vec<String> = match (&target, prompts.choices(row)?) {
        (Value::Array(several), _) => several.iter().map(as_text).collect(),
        (Value::Number(number), choices) if !choices.is_empty() => {
            let chosen = number.as_u64().and_then(|i| choices.get(i as usize)).cloned();
            vec![chosen.ok_or_else(|| Error::input(format!("doc_to_target: there is no choice {number}")))?]
        }
        (one, _) => vec![as_text(one)],
    };
    let mut counted = PerRow::new();
    for metric in &task.metrics {
        let own = without(&answer, &metric.ignores)?;
        let mut equal = false;
        for text in &gold {
            equal |= without(text, &metric.ignores)? == own;
        }
        counted.push((metric.name.clone(), RowCount::Number(f64::from(u8::from(equal)))));
    }
    Ok(counted)
}

/// A text without what is ignored.
fn without(text: &str, ignored: &Ignored) -> Result<String> {
    let mut text = text.to_string();
    for pattern in &ignored.regexes {
        let regex = Regex::new(pattern).map_err(|e| Error::input(format!("regexes_to_ignore {pattern}: {e}")))?;
        text = regex.replace_all(&text, "").into_owned();
    }
    if ignored.case {
        text = text.to_lowercase();
    }
    if ignored.punctuation {
        text.retain(|c| !c.is_ascii_punctuation());
    }
    if ignored.numbers {
        text.retain(|c| !c.is_ascii_digit());
    }
    Ok(text)
}

/// What the rows' counts come to.
pub fn aggregate(task: &EvalTask, filter: &str, rows: &[PerRow]) -> Vec<Aggregated> {
    let of = |(i, metric): (usize, &MetricEntry)| {
        let column: Vec<&RowCount> = rows.iter().filter_map(|row| row.get(i).map(|(_, value)| value)).collect();
        let (value, stderr) = match metric.kind {
            Perplexity => {
                let (mean, stderr) = mean(&numbers(&column));
                let value = (-mean).exp();
                (value, stderr.map(|stderr| value * stderr))
            }
            WordPerplexity | BytePerplexity => ((-weighted(&column)).exp(), None),
            BitsPerByte => (-weighted(&column) / std::f64::consts::LN_2, None),
            F1 => (f1(&column), None),
            Mcc => (mcc(&column), None),
            _ => mean(&numbers(&column)),
        };
        Aggregated { metric: metric.name.clone(), filter: filter.into(), value, stderr }
    };
    task.metrics.iter().enumerate().map(of).collect()
}

fn numbers(column: &[&RowCount]) -> Vec<f64> {
    column.iter().filter_map(|value| if let RowCount::Number(x) = value { Some(*x) } else { None }).collect()
}

/// Mean and its standard error; none of fewer than two numbers.
pub fn mean(x: &[f64]) -> (f64, Option<f64>) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let squares: f64 = x.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, (x.len() > 1).then(|| (squares / (n - 1.0)).sqrt() / n.sqrt()))
}

fn weighted(column: &[&RowCount]) -> f64 {
    let pairs =
        column.iter().filter_map(|value| if let RowCount::Weighted(a, b) = value { Some((*a, *b)) } else { None });
    let (sum, weight) = pairs.fold((0.0, 0.0), |(s, w), (a, b)| (s + a, w + b));
    sum / weight
}

fn labels<'a>(column: &'a [&RowCount]) -> impl Iterator<Item = (i64, i64)> + 'a {
    column.iter().filter_map(|value| if let RowCount::Labels(a, b) = value { Some((*a, *b)) } else { None })
}

/// 2 tp / (2 tp + fp + fn) of label 1.
fn f1(column: &[&RowCount]) -> f64 {
    let count = |f: &dyn Fn((i64, i64)) -> bool| labels(column).filter(|pair| f(*pair)).count() as f64;
    let (tp, wrong) = (count(&|(g, c)| g == 1 && c == 1), count(&|(g, c)| (g == 1) != (c == 1)));
    if tp + wrong == 0.0 { 0.0 } else { 2.0 * tp / (2.0 * tp + wrong) }
}

/// Matthews' correlation coefficient of any number of labels (J. Gorodkin, 2004): cov(right, chosen) / √(var · var).
fn mcc(column: &[&RowCount]) -> f64 {
    let pairs: Vec<(i64, i64)> = labels(column).collect();
    let n = pairs.len() as f64;
    let all: std::collections::BTreeSet<i64> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
    let share = |f: &dyn Fn(&(i64, i64)) -> bool| pairs.iter().filter(|pair| f(pair)).count() as f64;
    let same = share(&|(a, b)| a == b);
    let (mut both, mut right, mut chosen) = (0.0, 0.0, 0.0);
    for k in all {
        let (r, c) = (share(&|(a, _)| *a == k), share(&|(_, b)| *b == k));
        (both, right, chosen) = (both + r * c, right + r * r, chosen + c * c);
    }
    let scale = ((n * n - chosen) * (n * n - right)).sqrt();
    if scale == 0.0 { 0.0 } else { (same * n - both) / scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_their_errors() {
        let (value, stderr) = mean(&[1.0, 0.0, 1.0, 1.0]);
        assert_eq!(value, 0.75);
        approx::assert_relative_eq!(stderr.expect("an error"), 0.25);
        assert_eq!(mean(&[1.0]).1, None);
    }

    /// scikit-learn 1.9: f1_score([1,0,1,1,0],[1,1,1,0,0]) = 2/3, matthews_corrcoef of the same 1/6; of [0,1,2,2],[0,2,2,1]: 0.2.
    #[test]
    fn labels_over_all_rows() {
        let column = |pairs: &[(i64, i64)]| pairs.iter().map(|(a, b)| RowCount::Labels(*a, *b)).collect::<Vec<_>>();
        let rows = column(&[(1, 1), (0, 1), (1, 1), (1, 0), (0, 0)]);
        let rows: Vec<&RowCount> = rows.iter().collect();
        approx::assert_relative_eq!(f1(&rows), 2.0 / 3.0);
        approx::assert_relative_eq!(mcc(&rows), 1.0 / 6.0, max_relative = 1e-12);
        let rows = column(&[(0, 0), (1, 2), (2, 2), (2, 1)]);
        approx::assert_relative_eq!(mcc(&rows.iter().collect::<Vec<_>>()), MCC_OF_THREE, max_relative = 1e-12);
    }

    const MCC_OF_THREE: f64 = 0.2;

    #[test]
    fn words_as_python_splits_them() {
        for (text, n) in [("a b", 2), (" a b\n", 4), ("", 1), (" ", 2), ("a", 1)] {
            assert_eq!(n_words(text), n, "{text:?}");
        }
    }

    #[test]
    fn choices_that_are_sure_and_right_score_nothing() {
        assert_eq!(brier(&[0.0, -1000.0], 0), 0.0);
        assert_eq!(brier(&[0.0, 0.0], 1), 0.5);
    }
}
