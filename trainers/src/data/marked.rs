//! The first examples token by token, with what is trained on marked: masks are where people lose days.
use super::answers::{Labelled, Ranking, Sequence};
use super::tokenize::Example;
use crate::error::Result;
use crate::plural::counted_of;
use crate::text::Tokenizer;

const GREEN: &str = "\x1b[30;42m";
const GREEN_TOO: &str = "\x1b[30;102m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// The examples as text: each token by itself, trained ones on green (two greens in turn, so that one sees where a token ends),
/// the others dim; without colour, trained ones in brackets `⟦ ⟧`. Under each, how many tokens are trained.
pub fn preview(examples: &[Example], tokenizer: &Tokenizer, colour: bool) -> Result<String> {
    let titled: Vec<(String, &Example)> =
        examples.iter().enumerate().map(|(i, example)| (format!("example {}", i + 1), example)).collect();
    preview_titled(&titled, tokenizer, colour)
}

/// The same with a title for each.
pub fn preview_titled(examples: &[(String, &Example)], tokenizer: &Tokenizer, colour: bool) -> Result<String> {
    let mut out = String::new();
    for (title, example) in examples {
        let (n, of) = (example.n_trained(), example.ids.len());
        out.push_str(&format!("{title}: {} trained on\n", counted_of(n, of, "token", ("is", "are"))));
        for (i, (text, trained)) in pieces(example, tokenizer)?.into_iter().enumerate() {
            match (colour, trained) {
                (true, true) => out.push_str(&format!("{}{text}{RESET}", if i % 2 == 0 { GREEN } else { GREEN_TOO })),
                (true, false) => out.push_str(&format!("{DIM}{text}{RESET}")),
                (false, true) => out.push_str(&format!("⟦{text}⟧")),
                (false, false) => out.push_str(&text),
            }
            if text.ends_with('⏎') {
                out.push('\n');
            }
        }
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out.push('\n');
    }
    Ok(out)
}

/// A row that can be shown: one example with a title for each of its answers.
pub trait Marked {
    /// The examples of row number `row`, counted from 1.
    fn marked(&self, row: usize) -> Vec<(String, Example)>;
}

/// An answer on its prompt, with the tokens that count marked.
fn example_of(sequence: &Sequence) -> Example {
    let trained = (0..sequence.ids.len()).map(|i| i >= sequence.start.max(1)).collect();
    Example { ids: sequence.ids.clone(), trained }
}

impl Marked for Ranking {
    fn marked(&self, row: usize) -> Vec<(String, Example)> {
        let name = |k: usize| match (self.answers.len(), k) {
            (2, 0) => "chosen".to_string(),
            (2, _) => "rejected".into(),
            _ => format!("place {}", k + 1),
        };
        let one = |(k, answer): (usize, &Sequence)| (format!("row {row}, {}", name(k)), example_of(answer));
        self.answers.iter().enumerate().map(one).collect()
    }
}

impl Marked for Labelled {
    fn marked(&self, row: usize) -> Vec<(String, Example)> {
        let kind = if self.label { "good" } else { "bad" };
        vec![(format!("row {row}, {kind}"), example_of(&self.sequence))]
    }
}

/// The first `n` rows, ready to be shown.
pub fn first_rows<R: Marked>(rows: &[R], n: usize) -> Vec<(String, Example)> {
    rows.iter().take(n).enumerate().flat_map(|(i, row)| row.marked(i + 1)).collect()
}

/// Rows as `preview.json` has them: `[{"title": …, "pieces": [[text, trained], …]}, …]`.
pub fn to_json(examples: &[(String, Example)], tokenizer: &Tokenizer) -> Result<String> {
    let one = |(title, example): &(String, Example)| {
        Ok(serde_json::json!({"title": title, "pieces": pieces(example, tokenizer)?}))
    };
    let all = examples.iter().map(one).collect::<Result<Vec<_>>>()?;
    serde_json::to_string(&all).map_err(crate::Error::internal)
}

/// Text of each token. Tokens that are parts of one character are shown together at the last of them; line ends as ⏎, and
/// control characters (which could drive the terminal) by their pictures.
fn pieces(example: &Example, tokenizer: &Tokenizer) -> Result<Vec<(String, bool)>> {
    let mut pieces: Vec<(String, bool)> = Vec::new();
    let mut start = 0;
    for i in 0..example.ids.len() {
        let text = tokenizer.decode(&example.ids[start..=i])?;
        let last = i + 1 == example.ids.len() || example.trained[i + 1] != example.trained[i];
        // At most four bytes, so four tokens, make a character.
        if text.ends_with('\u{FFFD}') && !last && i - start < 3 {
            continue;
        }
        pieces.push((text.chars().map(visible).collect(), example.trained[i]));
        start = i + 1;
    }
    Ok(pieces)
}

fn visible(c: char) -> char {
    match c {
        '\n' => '⏎',
        '\x7f' => '\u{2421}',
        c if (c as u32) < 0x20 => char::from_u32(0x2400 + c as u32).unwrap_or(c),
        c if c.is_control() => '\u{FFFD}',
        c => c,
    }
}
