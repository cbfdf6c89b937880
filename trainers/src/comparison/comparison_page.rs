//! The comparison as one HTML file, in the report's style.
use super::{Contest, Contests, Examined};
use crate::judges::constitutional::readable;
use crate::report::page::STYLE;
use crate::run::progress::short_value;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The page: the summary, then every prompt with both answers.
pub fn page(contests: &Contests) -> String {
    let [a, b] = &contests.labels;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "lapidary: " (a) " and " (b) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (a) " and " (b) }
                table {
                    tr { th {} th { (a) } th { (b) } }
                    @for line in contests.summary() {
                        tr { td { (line.name) } @for value in &line.values { td.number { (value) } } }
                    }
                }
                @for note in contests.notes() { p.fine { (note) } }
                h2 { "Answers" }
                @for contest in &contests.all { (answers(contests, contest)) }
            }
        }
    };
    page.into_string()
}

fn answers(contests: &Contests, contest: &Contest) -> Markup {
    let prompt = contest.row.fields.get("prompt").map(readable).unwrap_or_default();
    let better = contest.rank.map(|rank| contests.labels.get(rank as usize).map_or("neither", String::as_str));
    html! {
        h3.tokens { (prompt) }
        @if let Some(better) = better { p { "better by the judge: " b { (better) } } }
        table {
            tr { @for label in &contests.labels { th { (label) } } }
            tr { @for one in &contest.answers { td.tokens { (one.answer.text) } } }
            tr { @for one in &contest.answers { td { (numbers(contests, one)) } } }
        }
    }
}

/// "12 tokens; log p a token −0.5 by a, −0.9 by b; reward 0.3; exact"
fn numbers(contests: &Contests, one: &Examined) -> String {
    let mut parts = vec![crate::plural::counted(one.answer.tokens.len(), "token")];
    if !one.answer.ended {
        parts.push("cut".into());
    }
    let by = contests.labels.iter().zip(one.logp);
    let by = by.filter_map(|(label, logp)| Some(format!("{} by {label}", short_value(logp?.per_token()))));
    parts.push(format!("log p a token {}", by.collect::<Vec<_>>().join(", ")));
    parts.extend(one.reward.map(|reward| format!("reward {}", short_value(reward))));
    parts.extend(one.exact.map(|exact| if exact { "the reference".into() } else { "not the reference".to_string() }));
    parts.join("; ")
}
