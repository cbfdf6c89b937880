//! The report's HTML: everything in one file, no script, light and dark.
use super::{Run, chart};
use crate::error::{Error, Result};
use crate::run::health::warnings;
use crate::run::memory::show_bytes;
use crate::run::metrics::{HEADLINES, explain, healthy};
use crate::run::progress::{duration, short_number, short_value};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

/// The style of every page that the program writes.
pub const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --good: #0a7d38; --bad: #b3261e; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); } h3 { margin: 1.5rem 0 0; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; text-align: right; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; background: white; border-radius: 4px; }
figcaption { color: #888; } pre { background: var(--soft); padding: 1rem; overflow-x: auto; white-space: pre-wrap; }
.warning { border-left: 4px solid var(--bad); padding: .3rem .8rem; margin: .5rem 0; background: var(--soft); }
.fine { border-left-color: var(--good); } .tokens { white-space: pre-wrap; background: var(--soft); padding: .6rem; }
.tokens b { font-weight: inherit; background: #0a7d3855; border-radius: 2px; } summary { cursor: pointer; }
";

/// The page of one run, or of several laid over each other. `refresh`: seconds after which a browser loads it again.
pub fn of(runs: &[Run], refresh: Option<u32>) -> Result<String> {
    let title = runs.iter().map(|run| run.label.as_str()).collect::<Vec<_>>().join(", ");
    let charts = charts(runs)?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
                title { "lapidary: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                @for run in runs { (about(run, runs.len() > 1)) }
                h2 { "Curves" }
                (charts)
                @for run in runs {
                    (samples(run))
                    (answers(run))
                    (preview(run))
                    (settings(run))
                }
            }
        }
    };
    Ok(page.into_string())
}

/// A page that says why there is no other yet, and asks again.
pub fn trouble(said: &str, refresh: u32) -> String {
    let page = html! {
        (DOCTYPE)
        html { head { meta charset="utf-8"; meta http-equiv="refresh" content=(refresh); } body { p { (said) } } }
    };
    page.into_string()
}

/// What it was, how it went, what to look at.
fn about(run: &Run, one_of_several: bool) -> Markup {
    let manifest = &run.manifest;
    let of = |name: &str| manifest[name].as_str().unwrap_or("").to_string();
    let signs = warnings(&run.metrics);
    html! {
        @if one_of_several { h2 { (run.label) } }
        p {
            @if !manifest.is_null() {
                "lapidary " (of("lapidary")) ", " b { (of("command")) } " on " (of("device")) "; begun " (of("started"))
                @match manifest["finished"].as_str() {
                    Some(at) => { ", finished " (at) }
                    None => { ", not finished" }
                }
            }
        }
        (spent(manifest))
        @for said in run.left_out.iter().chain(&signs) { p.warning { (said) } }
        @if signs.is_empty() { p.warning.fine { "No sign of trouble in the curves." } }
        (learnt(run))
    }
}

/// Time and memory, where the run has come to its end.
fn spent(manifest: &Value) -> Markup {
    let outcome = &manifest["outcome"];
    let number = |name: &str| outcome[name].as_f64();
    html! {
        @if let (Some(seconds), Some(speed)) = (number("seconds"), number("tokens_per_second")) {
            p {
                (duration(seconds)) ", " (short_number(speed)) " tokens/s"
                @if let Some(peak) = outcome["peak_bytes"].as_u64() {
                    "; memory at the peak " (show_bytes(peak))
                    @if let Some(predicted) = outcome["predicted_bytes"].as_u64() { " (" (show_bytes(predicted)) " predicted)" }
                }
            }
        }
    }
}

/// First and last value of the metrics that say whether it worked.
fn learnt(run: &Run) -> Markup {
    let held_out = HEADLINES.iter().map(|(name, _)| format!("eval_{name}"));
    let names = HEADLINES.iter().map(|(name, _)| name.to_string()).chain(held_out);
    let rows: Vec<(String, String)> = names
        .filter_map(|name| {
            let series = run.metrics.series(&name);
            let (first, last) = (series.first()?.1, series.last()?.1);
            Some((name, format!("{} → {}", short_value(first), short_value(last))))
        })
        .collect();
    html! {
        table {
            @for (name, ends) in &rows { tr { td { code { (name) } } td.number { (ends) } } }
        }
    }
}

/// A chart for each metric that any of the runs has logged, with what it is and how it looks when all is well.
fn charts(runs: &[Run]) -> Result<Markup> {
    let mut names: Vec<&str> = Vec::new();
    for name in runs.iter().flat_map(|run| run.metrics.names()) {
        let is_curve = !["step", "epoch", "num_tokens"].contains(&name) && !name.starts_with("eval_");
        if is_curve && !names.contains(&name) {
            names.push(name);
        }
    }
    let only_held_out = runs.iter().flat_map(|run| run.metrics.names()).filter(|n| n.starts_with("eval_"));
    for name in only_held_out.filter(|n| {
        !["eval_runtime", "eval_num_tokens", "eval_samples_per_second", "eval_steps_per_second"].contains(n)
    }) {
        if !names.contains(&&name["eval_".len()..]) && !names.contains(&name) {
            names.push(name);
        }
    }
    let place = |name: &str| HEADLINES.iter().position(|(headline, _)| *headline == name).unwrap_or(usize::MAX);
    names.sort_by_key(|name| place(name));
    let one = |name: &&str| -> Result<Markup> {
        let mut labels = Vec::new();
        let mut lines = Vec::new();
        for run in runs {
            for (name, what) in [(name.to_string(), ""), (format!("eval_{name}"), ", held out")] {
                let series = run.metrics.series(&name);
                if !series.is_empty() {
                    labels.push(format!("{}{what}", run.label));
                    lines.push(series);
                }
            }
        }
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let svg = chart::picture_of(None, &labels, &[(*name, lines)]).map_err(Error::internal)?;
        let metric = explain(name);
        Ok(html! {
            figure {
                (PreEscaped(svg))
                figcaption {
                    @if let Some(metric) = metric {
                        (metric.meaning)
                        @if !metric.unit.is_empty() { " In " (metric.unit) "." }
                    }
                    @if let Some(healthy) = healthy(name) { " " b { "Healthy: " } (healthy) }
                }
            }
        })
    };
    let figures = names.iter().map(one).collect::<Result<Vec<_>>>()?;
    Ok(html! { @for figure in &figures { (figure) } })
}

/// Completions along the run with their rewards.
fn samples(run: &Run) -> Markup {
    let shown = run.shown_samples();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    html! {
        @if !shown.is_empty() {
            h2 { "Completions along the way" }
            p { "The best and the worst of a few steps; all of them are in samples.jsonl." }
            table {
                tr { th { "step" } th { "reward" } th { "prompt" } th { "completion" } }
                @for sample in shown {
                    tr {
                        td.number { (sample["step"]) }
                        td.number { (sample["reward"].as_f64().map_or("–".into(), short_value)) }
                        td { (text(&sample["prompt"])) }
                        td { (text(&sample["completion"])) }
                    }
                }
            }
        }
    }
}

/// Answers to held-out prompts at a few evaluations.
fn answers(run: &Run) -> Markup {
    let shown = run.shown_answers();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    html! {
        @if !shown.is_empty() {
            h2 { "Held-out prompts" }
            p { "What the model answered at a few evaluations, always with the likeliest token; all answers are in samples.jsonl." }
            table {
                tr { th { "step" } th { "prompt" } th { "answer" } th { "in the data" } }
                @for sample in shown {
                    tr {
                        td.number { (sample["step"]) }
                        td { (text(&sample["prompt"])) }
                        td { (text(&sample["completion"])) }
                        td { (text(&sample["reference"])) }
                    }
                }
            }
        }
    }
}

/// The first rows as the trainer saw them.
fn preview(run: &Run) -> Markup {
    html! {
        @if !run.preview.is_empty() {
            h2 { "What was trained on" }
            p { "The first rows token by token; the loss counts what is marked." }
            @for row in &run.preview {
                h3 { (row["title"].as_str().unwrap_or("")) }
                div.tokens {
                    @for piece in row["pieces"].as_array().into_iter().flatten() {
                        @if piece[1].as_bool() == Some(true) { b { (piece[0].as_str().unwrap_or("")) } }
                        @else { (piece[0].as_str().unwrap_or("")) }
                    }
                }
            }
        }
    }
}

/// Options and manifest.
fn settings(run: &Run) -> Markup {
    html! {
        h2 { "How it was made" }
        details { summary { "Options (config.yaml)" } pre { (run.config) } }
        @if !run.manifest.is_null() {
            details { summary { "Manifest" } pre { (serde_json::to_string_pretty(&run.manifest).unwrap_or_default()) } }
        }
    }
}
