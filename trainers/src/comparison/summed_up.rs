//! What the contests come to: a line each, with intervals, for the terminal and the page.
use super::candidate::AnswerLogp;
use super::intervals::{Estimate, mean_of, share_of};
use super::{Contests, Examined};

/// A quantity of both models.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryLine {
    /// What is measured, with its unit.
    pub name: String,
    /// A's and B's value; one alone where it is about the pair.
    pub values: Vec<String>,
}

/// "0.512 [0.401, 0.622]"; the estimate alone where there is no interval, "–" of nothing.
pub fn shown(e: Estimate) -> String {
    let number = |x: f64| if x.abs() >= 100.0 { format!("{x:.1}") } else { format!("{x:.3}") };
    match (e.value.is_nan(), e.low.is_nan()) {
        (true, _) => "–".into(),
        (_, true) => number(e.value),
        _ => format!("{} [{}, {}]", number(e.value), number(e.low), number(e.high)),
    }
}

/// Wins of A and of B, and ties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wins {
    /// A is better.
    pub a: usize,
    /// B is better.
    pub b: usize,
    /// Neither.
    pub ties: usize,
}

impl Wins {
    /// Counts ranks: 0 for A, 1 for B, −1 for a tie.
    pub fn count(ranks: impl IntoIterator<Item = i32>) -> Wins {
        ranks.into_iter().fold(Wins::default(), |wins, rank| match rank {
            0 => Wins { a: wins.a + 1, ..wins },
            1 => Wins { b: wins.b + 1, ..wins },
            _ => Wins { ties: wins.ties + 1, ..wins },
        })
    }

    /// How many there are in all.
    pub fn n(self) -> usize {
        self.a + self.b + self.ties
    }

    /// The share that A (or B) wins, ties as halves.
    pub fn share(self, of_b: bool) -> Estimate {
        let won = if of_b { self.b } else { self.a };
        share_of(won as f64 + 0.5 * self.ties as f64, self.n())
    }
}

impl Contests {
    /// The judge's verdicts; None without any.
    pub fn judged(&self) -> Option<Wins> {
        let wins = Wins::count(self.all.iter().filter_map(|contest| contest.rank));
        (wins.n() > 0).then_some(wins)
    }

    /// Which of the two has the higher reward; None without rewards.
    pub fn by_reward(&self) -> Option<Wins> {
        let rank = |a: f64, b: f64| if a > b { 0 } else { i32::from(b > a) * 2 - 1 };
        let pair = |contest: &super::Contest| Some(rank(contest.answers[0].reward?, contest.answers[1].reward?));
        let wins = Wins::count(self.all.iter().filter_map(pair));
        (wins.n() > 0).then_some(wins)
    }

    /// Mean of something about the answers of A (0) or B (1); answers that lack it are left out.
    fn mean(&self, of: usize, value: impl Fn(&Examined) -> Option<f64>) -> Estimate {
        mean_of(&self.all.iter().filter_map(|contest| value(&contest.answers[of])).collect::<Vec<_>>())
    }

    /// log p_own − log p_other of the answers of A or B; by token: of each answer divided by its tokens.
    fn log_ratio(&self, of: usize, by_token: bool) -> Estimate {
        self.mean(of, |one| {
            let (own, other): (AnswerLogp, AnswerLogp) = (one.logp[of]?, one.logp[1 - of]?);
            Some(if by_token { own.per_token() - other.per_token() } else { own.sum - other.sum })
        })
    }

    /// The table's lines.
    pub fn summary(&self) -> Vec<SummaryLine> {
        let mut lines = Vec::new();
        let mut both = |name: String, value: &dyn Fn(usize) -> Estimate| {
            lines.push(SummaryLine { name, values: vec![shown(value(0)), shown(value(1))] });
        };
        let share = |of: usize, is: &dyn Fn(&Examined) -> Option<bool>| {
            let all: Vec<bool> = self.all.iter().filter_map(|contest| is(&contest.answers[of])).collect();
            share_of(all.iter().filter(|is| **is).count() as f64, all.len())
        };
        if let Some(wins) = self.judged() {
            let ties = format!("share of {} judged, {} of them ties (½ each)", wins.n(), wins.ties);
            both(format!("win rate by the judge, {ties}"), &|of| wins.share(of == 1));
        }
        if let Some(wins) = self.by_reward() {
            both(format!("win rate by the reward, {} ties (½ each)", wins.ties), &|of| wins.share(of == 1));
            both("reward".into(), &|of| self.mean(of, |one| one.reward));
        }
        if self.all.iter().any(|contest| contest.answers[0].exact.is_some()) {
            both("exactly the reference, share".into(), &|of| share(of, &|one| one.exact));
        }
        both("length, tokens".into(), &|of| self.mean(of, |one| Some(one.answer.tokens.len() as f64)));
        both("length, characters".into(), &|of| self.mean(of, |one| Some(one.answer.text.chars().count() as f64)));
        both("came to an end, share".into(), &|of| share(of, &|one| Some(one.answer.ended)));
        for (by, label) in self.labels.iter().enumerate() {
            both(format!("log p by {label}, nats a token"), &|of| self.mean(of, |one| Some(one.logp[by]?.per_token())));
        }
        let name = if self.unfiltered && self.same_tokens { "KL to the other" } else { "log-ratio to the other" };
        both(format!("{name}, nats an answer"), &|of| self.log_ratio(of, false));
        both(format!("{name}, nats a token"), &|of| self.log_ratio(of, true));
        lines
    }

    /// What one should know to read the table.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec!["means and shares with their 95 % intervals over the prompts".to_string()];
        if !self.same_tokens {
            notes.push(
                "the tokenizers differ: each model scores the other's answer as its own tokens, without its end".into(),
            );
        }
        if !self.unfiltered {
            notes.push(
                "log-ratios estimate no KL here: answers are drawn as they are only with temperature 1 and no filter"
                    .into(),
            );
        }
        let same =
            self.all.iter().filter(|contest| contest.answers[0].answer.text == contest.answers[1].answer.text).count();
        if same > 0 {
            notes.push(format!(
                "{same} of {} have the same answer from both",
                crate::plural::counted(self.all.len(), "prompt")
            ));
        }
        if self.too_long > 0 {
            notes.push(format!("{} left out: no room for an answer", crate::plural::counted(self.too_long, "prompt")));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidate::Answer;
    use super::super::{Contest, Examined};
    use super::*;
    use crate::data::Row;
    use serde_json::Map;
    use std::sync::Arc;

    fn examined(logp: [f64; 2], n: usize, reward: f64) -> Examined {
        let answer = Answer { text: "ab".into(), tokens: vec![1; n], ended: n < 3 };
        Examined {
            answer,
            logp: logp.map(|sum| Some(AnswerLogp { sum, tokens: n })),
            reward: Some(reward),
            exact: None,
        }
    }

    fn contests(all: Vec<([Examined; 2], Option<i32>)>) -> Contests {
        let row = Row { path: Arc::new("rows".into()), line: 1, fields: Map::new() };
        let all = all.into_iter().map(|(answers, rank)| Contest { row: row.clone(), answers, rank }).collect();
        Contests { labels: ["a".into(), "b".into()], all, too_long: 0, same_tokens: true, unfiltered: true }
    }

    #[test]
    fn by_hand() {
        let all = contests(vec![
            ([examined([-1.0, -3.0], 2, 1.0), examined([-4.0, -2.0], 4, 2.0)], Some(1)),
            ([examined([-2.0, -2.0], 2, 0.5), examined([-1.0, -3.0], 2, 0.5)], Some(-1)),
        ]);
        assert_eq!(all.judged(), Some(Wins { a: 0, b: 1, ties: 1 }));
        assert_eq!(all.judged().map(|wins| (wins.share(false).value, wins.share(true).value)), Some((0.25, 0.75)));
        assert_eq!(all.by_reward(), Some(Wins { a: 0, b: 1, ties: 1 }));
        // On A's answers: (2 + 0)/2; on B's: (2 + −2)/2, by token (0.5 + −1)/2.
        assert_eq!([0, 1].map(|of| all.log_ratio(of, false).value), [1.0, 0.0]);
        assert_eq!([0, 1].map(|of| all.log_ratio(of, true).value), [0.5, -0.25]);
        let lines = all.summary();
        let of = |name: &str| lines.iter().find(|line| line.name.starts_with(name)).map(|line| line.values.clone());
        assert!(of("length, tokens").unwrap()[0].starts_with("2.000"), "{lines:?}");
        assert!(of("log p by a").unwrap()[1].starts_with("-0.750"), "{lines:?}");
        assert!(of("KL to the other, nats an answer").is_some());
        assert_eq!(Wins::count([0, 0, 1, -1]), Wins { a: 2, b: 1, ties: 1 });
    }

    #[test]
    fn estimates_for_people() {
        let e = |value, low, high| Estimate { value, low, high };
        assert_eq!(shown(e(0.5, 0.25, 0.75)), "0.500 [0.250, 0.750]");
        assert_eq!(shown(e(123.45, f64::NAN, f64::NAN)), "123.5");
        assert_eq!(shown(e(f64::NAN, 0.0, 0.0)), "–");
    }
}
