//! A chat template as a Go template for Ollama, which does not run Jinja: found by what the Jinja prints.
//!
//! Conversations are rendered whose contents are known words; what stands between the words are the template's parts.
//! Put together they must print further conversations as the Jinja does, or there is no Go template.
use super::{ChatTemplates, RenderInput, Tokenizer};
use crate::error::Result;
use serde_json::{Value as Json, json};

/// What a template prints around contents.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pieces {
    /// Where there is no system message.
    no_system: String,
    before_system: String,
    behind_system: String,
    before_user: String,
    /// Behind a user's message that was answered, and the last one's.
    behind_user: String,
    behind_last_user: String,
    behind_assistant: String,
}

/// Words that no template prints.
const WORDS: [&str; 4] = ["QsystemQ", "QfirstQ", "QanswerQ", "QsecondQ"];

/// The Go template; None where the model's template does more than to put texts around contents. `bos`: what the runtime puts
/// in front by itself, so that the template must not.
pub fn go_template(tokenizer: &Tokenizer, bos: Option<&str>) -> Result<Option<String>> {
    // Two days apart: a template that tells the date is no fixed text.
    let (today, later) = (tokenizer.chat_templates(0)?, tokenizer.chat_templates(40 * 86_400)?);
    let Some(mut parts) = parts(&today) else { return Ok(None) };
    let longer = |system: Option<&str>| conversation(system, &["a b?", "c, d.", "e\n\nf", "g", "h?"]);
    for system in [None, Some("Be brief."), Some("x\ny")] {
        for turns in [longer(system), conversation(system, &["one"])] {
            if render(&later, &turns) != Some(parts.print(system, &turns)) {
                return Ok(None);
            }
        }
    }
    if let Some(bos) = bos {
        for part in [&mut parts.no_system, &mut parts.before_system] {
            if let Some(rest) = part.strip_prefix(bos) {
                *part = rest.to_string();
            }
        }
        // Where there is no system message, BOS may stand in the user's part: that one is not repeated with each turn.
        if parts.no_system.is_empty() && parts.before_user.starts_with(bos) {
            return Ok(None);
        }
    }
    Ok(Some(parts.in_go()))
}

/// Turns of user and assistant by turns, behind a system message.
fn conversation(system: Option<&str>, turns: &[&str]) -> Vec<Json> {
    let role = |i: usize| if i.is_multiple_of(2) { "user" } else { "assistant" };
    let system = system.map(|text| json!({"role": "system", "content": text}));
    let turns = turns.iter().enumerate().map(|(i, text)| json!({"role": role(i), "content": text}));
    system.into_iter().chain(turns).collect()
}

/// What is printed up to where the assistant is to begin; None where the template refuses.
fn render(templates: &ChatTemplates, messages: &[Json]) -> Option<String> {
    let input = RenderInput { messages, add_generation_prompt: true, ..Default::default() };
    templates.render(&input).ok().map(|rendered| rendered.text)
}

/// The texts around `words`, which must occur once each and in order.
fn around<'a>(mut text: &'a str, words: &[&str]) -> Option<Vec<&'a str>> {
    let mut parts = Vec::new();
    for word in words {
        let (before, rest) = text.split_once(word)?;
        parts.push(before);
        text = rest;
    }
    parts.push(text);
    Some(parts)
}

fn parts(templates: &ChatTemplates) -> Option<Pieces> {
    let [system, first, answer, second] = WORDS;
    let plain = render(templates, &conversation(None, &[first, answer, second]))?;
    let told = render(templates, &conversation(Some(system), &[first]))?;
    let plain = around(&plain, &[first, answer, second])?;
    let told = around(&told, &[system, first])?;
    let ([start, behind_user, between, last], [before_system, to_user, _]) = (&plain[..], &told[..]) else {
        return None;
    };
    // What begins every turn of a user ends all three texts that stand before one.
    let common = common_suffix(common_suffix(start, between), to_user);
    Some(Pieces {
        no_system: start.strip_suffix(common)?.to_string(),
        before_system: before_system.to_string(),
        behind_system: to_user.strip_suffix(common)?.to_string(),
        before_user: common.to_string(),
        behind_user: behind_user.to_string(),
        behind_last_user: last.to_string(),
        behind_assistant: between.strip_suffix(common)?.to_string(),
    })
}

fn common_suffix<'a>(a: &'a str, b: &str) -> &'a str {
    let same = a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b);
    let bytes: usize = same.map(|(c, _)| c.len_utf8()).sum();
    &a[a.len() - bytes..]
}

impl Pieces {
    /// What the Go template prints.
    fn print(&self, system: Option<&str>, messages: &[Json]) -> String {
        let mut out = match system {
            Some(text) => format!("{}{text}{}", self.before_system, self.behind_system),
            None => self.no_system.clone(),
        };
        for (i, message) in messages.iter().enumerate() {
            let content = message["content"].as_str().unwrap_or_default();
            let behind = if i + 1 == messages.len() { &self.behind_last_user } else { &self.behind_user };
            match message["role"].as_str() {
                Some("user") => out += &format!("{}{content}{behind}", self.before_user),
                Some("assistant") => out += &format!("{content}{}", self.behind_assistant),
                _ => {}
            }
        }
        out
    }

    fn in_go(&self) -> String {
        let [no_system, before_system, behind_system, before_user, behind_user, behind_last_user, behind_assistant] = [
            &self.no_system,
            &self.before_system,
            &self.behind_system,
            &self.before_user,
            &self.behind_user,
            &self.behind_last_user,
            &self.behind_assistant,
        ]
        .map(|text| literal(text));
        let behind = match self.behind_user == self.behind_last_user {
            true => behind_user,
            false => format!(
                "{{{{ if eq (len (slice $.Messages $i)) 1 }}}}{behind_last_user}{{{{ else }}}}{behind_user}{{{{ end }}}}"
            ),
        };
        [
            format!("{{{{ if .System }}}}{before_system}{{{{ .System }}}}{behind_system}{{{{ else }}}}{no_system}{{{{ end }}}}"),
            format!("{{{{ range $i, $_ := .Messages }}}}{{{{ if eq .Role \"user\" }}}}{before_user}{{{{ .Content }}}}{behind}"),
            format!("{{{{ else if eq .Role \"assistant\" }}}}{{{{ .Content }}}}{behind_assistant}{{{{ end }}}}{{{{ end }}}}"),
        ]
        .concat()
    }
}

/// A text as an action that prints it: blanks and braces in it have no meaning to the template.
fn literal(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut out = String::from("{{ \"");
    for c in text.chars() {
        match c {
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            '\r' => out += "\\r",
            '\\' => out += "\\\\",
            '"' => out += "\\x22",
            c if c.is_control() => out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out + "\" }}"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn tokenizer(template: &str) -> Tokenizer {
        let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tokenizer");
        let mut tokenizer = Tokenizer::from_directory(&golden).unwrap();
        tokenizer.set_chat_template(template);
        tokenizer
    }

    const CHATML: &str = "{% if messages[0].role != 'system' %}<|im_start|>system\nDo \"it\".<|im_end|>\n{% endif %}\
        {% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    #[test]
    fn a_template_of_fixed_texts_is_found() {
        let go = go_template(&tokenizer(CHATML), None).unwrap().unwrap();
        assert!(go.starts_with("{{ if .System }}{{ \"<|im_start|>system\\n\" }}{{ .System }}"), "{go}");
        assert!(go.contains("{{ else }}{{ \"<|im_start|>system\\nDo \\x22it\\x22.\" }}"), "{go}");
        assert!(!go.contains("\"\"\""));
        assert!(go.ends_with("{{ end }}{{ end }}"), "{go}");
    }

    #[test]
    fn the_last_turn_may_differ_and_bos_is_left_to_the_runtime() {
        let template = "<|endoftext|>{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}\
            {% if add_generation_prompt %}[assistant]<think>{% endif %}";
        let go = go_template(&tokenizer(template), Some("<|endoftext|>")).unwrap().unwrap();
        assert!(go.contains("slice $.Messages $i") && go.contains("<think>") && !go.contains("endoftext"), "{go}");
        assert!(go_template(&tokenizer(template), None).unwrap().unwrap().contains("endoftext"));
    }

    #[test]
    fn a_template_that_does_more_has_none() {
        for template in [
            "{{ strftime_now('%d') }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}",
            "{% for m in messages %}[{{ m.role }}]{{ m.content | upper }}{% endfor %}",
            "{% for m in messages %}{{ loop.index }}[{{ m.role }}]{{ m.content }}{% endfor %}",
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
             {% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}",
        ] {
            assert_eq!(go_template(&tokenizer(template), None).unwrap(), None, "{template}");
        }
    }
}
