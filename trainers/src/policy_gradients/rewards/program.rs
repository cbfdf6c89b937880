//! A reward from any program: one JSON line in for each batch, one JSON line out.
//!
//! In: `{"prompts": […], "completions": [text, …], "completion_ids": [[…], …], "<column>": […], …}` (TRL's signature of
//! a reward function). Out: `[1.0, null, …]` or `{"rewards": […]}`, a number or null each. What the program writes to
//! standard error goes to ours. It is started once and kept; one that dies or hangs is started again.
use super::shortened;
use crate::error::{Error, Result};
use crate::policy_gradients::judged::{Judged, Reward};
use crate::text::exact_json;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Batches in a row that may go unjudged before the run ends.
const PATIENCE: usize = 3;

/// A program that judges.
pub struct ProgramReward {
    command: String,
    name: String,
    timeout: Duration,
    retries: usize,
    running: Option<Running>,
    /// Batches in a row that it could not judge.
    failed: usize,
    /// Whether it ever gave an answer.
    answered: bool,
}

struct Running {
    child: Child,
    /// A thread writes, so that a program that does not read cannot hold the run.
    requests: Sender<String>,
    lines: Receiver<std::io::Result<String>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What went wrong with one attempt.
enum Trouble {
    /// It died, hung, or its pipe broke: another attempt may do.
    Broken(String),
    /// It answered nonsense: it would again.
    Wrong(String),
}

impl ProgramReward {
    /// Starts `command` (split at blanks, with quotes as in a shell).
    ///
    /// Errors: a program that cannot be started.
    pub fn new(command: &str, timeout: f64, retries: usize) -> Result<Self> {
        let words = split(command)?;
        let program = words.first().cloned().unwrap_or_default();
        let stem = std::path::Path::new(words.iter().rev().find(|w| !w.starts_with('-')).unwrap_or(&program))
            .file_stem()
            .map_or(program.clone(), |s| s.to_string_lossy().into_owned());
        let mut reward = ProgramReward {
            command: command.into(),
            name: stem,
            timeout: Duration::from_secs_f64(timeout.min(1e9)),
            retries,
            running: None,
            failed: 0,
            answered: false,
        };
        reward.running = Some(reward.start()?);
        Ok(reward)
    }

    fn start(&self) -> Result<Running> {
        let words = split(&self.command)?;
        let wrong = |detail: String| Error::Input(format!("reward_funcs: program:{}: {detail}", self.command));
        let (program, arguments) = words.split_first().ok_or_else(|| wrong("names no program".into()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| wrong(format!("cannot be started: {e}")))?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::internal("a program without pipes"));
        };
        let (requests, asked) = channel::<String>();
        std::thread::spawn(move || {
            while let Ok(request) = asked.recv() {
                if stdin.write_all(request.as_bytes()).and_then(|()| stdin.flush()).is_err() {
                    return;
                }
            }
        });
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Running { child, requests, lines })
    }

    /// One attempt at one batch.
    fn ask(&mut self, request: &str, n: usize) -> Result<std::result::Result<Vec<Option<f64>>, Trouble>> {
        if self.running.is_none() {
            self.running = Some(self.start()?);
        }
        let Some(running) = &mut self.running else { return Err(Error::internal("no reward program")) };
        let answer = match running.requests.send(request.to_string()) {
            Err(_) => Err(Trouble::Broken(ended(&mut running.child))),
            Ok(()) => match running.lines.recv_timeout(self.timeout) {
                Ok(Ok(line)) => rewards_of(&line, n).map_err(Trouble::Wrong),
                Ok(Err(e)) => Err(Trouble::Broken(format!("its output cannot be read: {e}"))),
                Err(RecvTimeoutError::Timeout) => {
                    Err(Trouble::Broken(format!("gave no answer within {} s", self.timeout.as_secs_f64())))
                }
                Err(RecvTimeoutError::Disconnected) => Err(Trouble::Broken(ended(&mut running.child))),
            },
        };
        if matches!(answer, Err(Trouble::Broken(_))) {
            self.running = None;
        }
        Ok(answer)
    }
}

/// How a program that closed its output ended.
fn ended(child: &mut Child) -> String {
    let _ = child.kill();
    match child.wait() {
        Ok(status) => format!("ended ({status})"),
        Err(e) => format!("ended: {e}"),
    }
}

impl Reward for ProgramReward {
    fn name(&self) -> &str {
        &self.name
    }

    /// A batch that cannot be judged after all attempts counts as not judged, loudly; several in a row end the run.
    fn score(&mut self, completions: &[Judged]) -> Result<Vec<Option<f64>>> {
        let request = exact_json::to_text(&request(completions)) + "\n";
        let mut last = String::new();
        for attempt in 0..=self.retries {
            match self.ask(&request, completions.len())? {
                Ok(rewards) => {
                    (self.failed, self.answered) = (0, true);
                    return Ok(rewards);
                }
                Err(Trouble::Wrong(detail)) => {
                    return Err(Error::Input(format!("the reward program {:?} {detail}", self.command)));
                }
                Err(Trouble::Broken(detail)) => {
                    tell!("warning: the reward program {:?} {detail} (attempt {})", self.command, attempt + 1);
                    last = detail;
                }
            }
        }
        self.failed += 1;
        if !self.answered {
            return Err(Error::Input(format!(
                "the reward program {:?} {last}; it never gave an answer: try it by hand with a line of JSON",
                self.command
            )));
        }
        if self.failed >= PATIENCE {
            return Err(Error::Input(format!(
                "the reward program {:?} {last}; {PATIENCE} batches in a row could not be judged",
                self.command
            )));
        }
        tell!(
            "warning: {} completions are not judged by {:?} and teach nothing by it",
            completions.len(),
            self.command
        );
        Ok(vec![None; completions.len()])
    }
}

/// A batch as one line of JSON.
fn request(completions: &[Judged]) -> Value {
    let columns: BTreeSet<&String> = completions.iter().flat_map(|c| c.prompt.row.fields.keys()).collect();
    let mut line = Map::new();
    line.insert("prompts".into(), completions.iter().map(|c| c.prompt.value().clone()).collect());
    line.insert("completions".into(), completions.iter().map(|c| Value::from(c.text)).collect());
    line.insert("completion_ids".into(), completions.iter().map(|c| json!(c.ids)).collect());
    for name in columns.into_iter().filter(|name| !matches!(name.as_str(), "prompt" | "completion" | "completion_ids"))
    {
        let value = |c: &Judged| c.prompt.row.fields.get(name).cloned().unwrap_or(Value::Null);
        line.insert(name.clone(), completions.iter().map(value).collect());
    }
    Value::Object(line)
}

/// The rewards in a line, or what is wrong with it.
fn rewards_of(line: &str, n: usize) -> std::result::Result<Vec<Option<f64>>, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| {
        format!("answered {:?}, which is not JSON ({e}); write [1.0, null, …] on one line", shortened(line))
    })?;
    let list = match &value {
        Value::Array(list) => list,
        Value::Object(fields) => match fields.get("rewards") {
            Some(Value::Array(list)) => list,
            _ => return Err(format!("answered {:?} without a list rewards", shortened(line))),
        },
        _ => return Err(format!("answered {:?}; a list of rewards is needed", shortened(line))),
    };
    if list.len() != n {
        return Err(format!("gave {} rewards for {n} completions; it must give one each (or null)", list.len()));
    }
    let one = |(i, value): (usize, &Value)| match value {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(number.as_f64()),
        other => Err(format!("gave {other} for completion {i}; a reward is a number, or null for no opinion")),
    };
    list.iter().enumerate().map(one).collect()
}

/// Words parted by blanks; quotes keep blanks in a word.
fn split(command: &str) -> Result<Vec<String>> {
    let (mut words, mut word, mut quote): (Vec<String>, Option<String>, Option<char>) = (vec![], None, None);
    for c in command.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quote.is_some() || words.is_empty() {
        return Err(Error::Input(format!("reward_funcs: program:{command}: a command with closed quotes is needed")));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy_gradients::judged::test_prompt;

    fn score(command: &str, timeout: f64, retries: usize) -> Result<Vec<Option<f64>>> {
        let prompt = test_prompt(&[("prompt", json!("q")), ("answer", json!("7"))]);
        let judged = |text| Judged { prompt: &prompt, text, ids: &[1, 2] };
        ProgramReward::new(command, timeout, retries)?.score(&[judged("7"), judged("it's 8")])
    }

    #[test]
    fn a_program_judges() {
        // The shell's read takes the request line; the answer is fixed.
        assert_eq!(score("sh -c 'read line; echo \"[1, null]\"'", 60.0, 0).unwrap(), [Some(1.0), None]);
        assert_eq!(
            score("sh -c 'read x; echo \"{\\\"rewards\\\": [0.5, -2]}\"'", 60.0, 0).unwrap(),
            [Some(0.5), Some(-2.0)]
        );
    }

    #[test]
    fn the_request_is_that_of_trl() {
        let prompt = test_prompt(&[("prompt", json!("q")), ("answer", json!("7"))]);
        let line = request(&[Judged { prompt: &prompt, text: "t", ids: &[1, 2] }]);
        assert_eq!(line, json!({"prompts": ["q"], "completions": ["t"], "completion_ids": [[1, 2]], "answer": ["7"]}));
    }

    #[test]
    fn wrong_answers_are_told() {
        for (answer, said) in [
            ("[1]", "gave 1 rewards for 2 completions"),
            ("[1, NaN]", "not JSON"),
            ("[1, \\\"good\\\"]", "gave \"good\" for completion 1"),
            ("7", "a list of rewards is needed"),
            ("hello", "not JSON"),
        ] {
            let text = score(&format!("sh -c 'read x; echo \"{answer}\"'"), 60.0, 1).unwrap_err().to_string();
            assert!(text.contains(said), "{answer}: {text}");
        }
        let text = score("/no/such/program", 1.0, 0).unwrap_err().to_string();
        assert!(text.contains("cannot be started"), "{text}");
        assert!(score("sh -c 'open", 1.0, 0).unwrap_err().to_string().contains("closed quotes"));
    }

    #[test]
    fn one_that_dies_is_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let flag = dir.path().join("second");
        // The first time it makes a file and dies; the second time it answers.
        let command =
            format!("sh -c 'read x; if [ -e {0} ]; then echo \"[1, 2]\"; else touch {0}; exit 3; fi'", flag.display());
        assert_eq!(score(&command, 60.0, 1).unwrap(), [Some(1.0), Some(2.0)]);
    }

    #[test]
    fn one_that_never_answers_ends_the_run_at_once_one_that_dies_later_in_the_end() {
        // Nothing is waited for: the program never answers, and the time it has is short.
        for (program, timeout) in [("sh -c 'read x; read y'", 0.05), ("sh -c 'exit 1'", 60.0)] {
            let text = score(program, timeout, 1).unwrap_err().to_string();
            assert!(text.contains("never gave an answer"), "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        let once = dir.path().join("answered");
        let line = format!("sh -c 'test -e {0} && exit 1; touch {0}; read x; echo [1]'", once.display());
        let prompt = test_prompt(&[]);
        let judged = Judged { prompt: &prompt, text: "", ids: &[] };
        let mut dying = ProgramReward::new(&line, 60.0, 0).unwrap();
        assert_eq!(dying.score(&[judged]).unwrap(), [Some(1.0)]);
        assert_eq!(dying.score(&[judged]).unwrap(), [None]);
        assert_eq!(dying.score(&[judged]).unwrap(), [None]);
        let text = dying.score(&[judged]).unwrap_err().to_string();
        assert!(text.contains("3 batches in a row"), "{text}");
    }
}
