//! Filters: what becomes of a row's answers before they are counted, under lm-eval's names.
use super::requests::Response;
use crate::error::{Error, Result};
use fancy_regex::Regex;
use serde_json::{Map, Value, json};
use std::path::Path;

/// One step.
#[derive(Clone, Debug)]
enum FilterStep {
    /// The `group`-th match of a regular expression (negative: from the end), or a fallback.
    Regex {
        regex: Box<Regex>,
        group: i64,
        fallback: String,
    },
    TakeFirst,
    TakeFirstK(usize),
    MajorityVote,
    Lowercase,
    Uppercase,
    RemoveWhitespace,
    Map {
        known: Map<String, Value>,
        default: Value,
    },
}

/// A named sequence of filters.
#[derive(Clone, Debug)]
pub struct FilterPipeline {
    name: String,
    steps: Vec<FilterStep>,
}

impl FilterPipeline {
    /// Those of a task file; without any, the first answer is taken.
    pub fn all(path: &Path, listed: Option<&Value>) -> Result<Vec<FilterPipeline>> {
        match listed {
            None | Some(Value::Null) => {
                Ok(vec![FilterPipeline { name: "none".into(), steps: vec![FilterStep::TakeFirst] }])
            }
            Some(Value::Array(list)) => list.iter().map(|entry| Self::of(path, entry)).collect(),
            Some(_) => Err(Error::file(path, "filter_list is no list")),
        }
    }

    fn of(path: &Path, entry: &Value) -> Result<FilterPipeline> {
        let wrong = |detail: &str| Error::file(path, format!("filter_list: {detail}"));
        let name = entry.get("name").and_then(Value::as_str).ok_or_else(|| wrong("an entry has no name"))?;
        let steps = entry.get("filter").and_then(Value::as_array).ok_or_else(|| wrong("an entry has no filter"))?;
        let steps =
            steps.iter().map(|step| FilterStep::of(step).map_err(|detail| wrong(&detail))).collect::<Result<_>>()?;
        Ok(FilterPipeline { name: name.into(), steps })
    }

    /// As it stands behind the comma of a result: `exact_match,strict-match`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is counted of an answer. Likelihoods pass unchanged.
    pub fn apply(&self, answer: &Response) -> Result<Value> {
        let Response::Texts(texts) = answer else { return Ok(answer.to_json()) };
        let mut values: Vec<Value> = texts.iter().map(|text| Value::from(text.as_str())).collect();
        let mut single = None;
        for step in &self.steps {
            match step {
                FilterStep::TakeFirst => single = values.first().cloned(),
                step => values = step.apply(values)?,
            }
        }
        Ok(single.unwrap_or(Value::Array(values)))
    }
}

impl FilterStep {
    fn of(entry: &Value) -> std::result::Result<FilterStep, String> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        match text("function").ok_or("a filter has no function")? {
            "regex" => {
                let pattern = text("regex_pattern").unwrap_or(r"#### (\-?[0-9\.\,]+)");
                let regex = Regex::new(pattern).map_err(|e| format!("regex_pattern {pattern}: {e}"))?;
                let group = entry.get("group_select").and_then(Value::as_i64).unwrap_or(0);
                Ok(FilterStep::Regex {
                    regex: Box::new(regex),
                    group,
                    fallback: text("fallback").unwrap_or("[invalid]").into(),
                })
            }
            "take_first" => Ok(FilterStep::TakeFirst),
            "take_first_k" => match entry.get("k").and_then(Value::as_u64) {
                Some(k) => Ok(FilterStep::TakeFirstK(k as usize)),
                None => Err("take_first_k has no k".into()),
            },
            "majority_vote" => Ok(FilterStep::MajorityVote),
            "lowercase" => Ok(FilterStep::Lowercase),
            "uppercase" => Ok(FilterStep::Uppercase),
            "remove_whitespace" => Ok(FilterStep::RemoveWhitespace),
            "map" => {
                let known = entry.get("mapping_dict").and_then(Value::as_object).cloned().unwrap_or_default();
                Ok(FilterStep::Map { known, default: entry.get("default_value").cloned().unwrap_or(Value::Null) })
            }
            other => Err(format!(
                "{other} is not one of regex, take_first, take_first_k, majority_vote, lowercase, uppercase, remove_whitespace, map"
            )),
        }
    }

    fn apply(&self, values: Vec<Value>) -> Result<Vec<Value>> {
        let texts =
            |f: &dyn Fn(&str) -> String| values.iter().map(|v| json!(f(v.as_str().unwrap_or_default()))).collect();
        Ok(match self {
            FilterStep::TakeFirst => values,
            FilterStep::TakeFirstK(k) if values.len() < *k => {
                return Err(Error::input(format!(
                    "take_first_k {k}: there are {} answers; a larger `repeats` is needed",
                    values.len()
                )));
            }
            FilterStep::TakeFirstK(k) => values[..*k].to_vec(),
            FilterStep::MajorityVote => vec![most_common(&values)],
            FilterStep::Lowercase => texts(&|text| text.to_lowercase()),
            FilterStep::Uppercase => texts(&|text| text.to_uppercase()),
            FilterStep::RemoveWhitespace => texts(&|text| text.trim().to_string()),
            FilterStep::Map { known, default } => {
                let of = |v: &Value| v.as_str().and_then(|text| known.get(text)).unwrap_or(default).clone();
                values.iter().map(of).collect()
            }
            FilterStep::Regex { regex, group, fallback } => {
                let found = |v: &Value| {
                    found(regex, v.as_str().unwrap_or_default(), *group)
                        .map(|text| json!(text.unwrap_or_else(|| fallback.clone())))
                };
                values.iter().map(found).collect::<Result<_>>()?
            }
        })
    }
}

/// The value that comes most often; of several, the one that came first.
fn most_common(values: &[Value]) -> Value {
    let count = |value: &Value| values.iter().filter(|other| *other == value).count();
    let best = values.iter().map(count).max().unwrap_or(0);
    values.iter().find(|value| count(value) == best).cloned().unwrap_or(Value::Null)
}

/// Python's `re.findall(text)[group]`, of several groups the first that is not empty, without white space at its ends.
fn found(regex: &Regex, text: &str, group: i64) -> Result<Option<String>> {
    let mut all = Vec::new();
    for captures in regex.captures_iter(text) {
        let captures = captures.map_err(|e| Error::input(format!("regex_pattern: {e}")))?;
        let group_of = |i: usize| captures.get(i).map_or("", |m| m.as_str()).to_string();
        all.push(match captures.len() {
            1 => Some(group_of(0)),
            2 => Some(group_of(1)),
            n => (1..n).map(group_of).find(|text| !text.is_empty()),
        });
    }
    let place = if group < 0 { all.len().checked_sub(group.unsigned_abs() as usize) } else { Some(group as usize) };
    match (all.is_empty(), place.and_then(|i| all.get(i))) {
        (true, _) => Ok(None),
        (false, Some(text)) => Ok(text.as_ref().map(|text| text.trim().to_string())),
        (false, None) => Err(Error::input(format!("regex filter: group_select {group} of {} matches", all.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(filter: Value, texts: &[&str]) -> Value {
        let entry = json!({"name": "f", "filter": filter});
        let pipeline = FilterPipeline::of(Path::new("task.yaml"), &entry).expect("a pipeline");
        pipeline.apply(&Response::Texts(texts.iter().map(|text| text.to_string()).collect())).expect("filtered")
    }

    #[test]
    fn numbers_votes_and_words() {
        let number = json!({"function": "regex", "regex_pattern": "(-?[0-9.,]{2,})|(-?[0-9]+)", "group_select": -1});
        let first = json!({"function": "take_first"});
        assert_eq!(applied(json!([number, first]), &["3 apples and 12 pears", "7"]), json!("12"));
        assert_eq!(applied(json!([number, first]), &["none"]), json!("[invalid]"));
        let vote = json!([number, {"function": "majority_vote"}, first]);
        assert_eq!(applied(vote, &["1", "it is 2", "2", "1"]), json!("1"));
        assert_eq!(applied(json!([{"function": "take_first_k", "k": 2}]), &["a", "b", "c"]), json!(["a", "b"]));
        let map = json!([{"function": "lowercase"}, {"function": "map", "mapping_dict": {"yes": 1}, "default_value": 0}, first]);
        assert_eq!(applied(map.clone(), &["YES"]), json!(1));
        assert_eq!(applied(map, &["no"]), json!(0));
    }
}
