//! Values of the policy-gradient trainers' options: choices by name, lists of texts and of numbers.
use super::value::{Kind, OptionValue, Range, Raw, with_home};
use crate::named::named;
use serde_json::Value;
use std::path::PathBuf;

named! {
    /// GRPO's loss types; see `losses/policy.rs` and `losses/weights.rs`.
    pub enum GrpoLoss {
        /// Clipped ratio; mean over the tokens of the whole step, so that every token weighs the same.
        Dapo = "dapo",
        /// Clipped ratio; mean over completions of their tokens' mean: tokens of long completions weigh less.
        Grpo = "grpo",
        /// Clipped ratio; divided by a constant, the longest completion possible: length gains nothing (Dr. GRPO).
        DrGrpo = "dr_grpo",
        /// Clipped ratio; mean over the tokens of a micro-batch: depends on how a step is cut.
        Bnpo = "bnpo",
        /// The ratio is a bounded constant that weighs log π: every token still learns; mean over the tokens of the step.
        Cispo = "cispo",
        /// A sigmoid of the ratio in place of the clip; mean over completions of their tokens' mean.
        Sapo = "sapo",
        /// Clipped ratio; mean over completions of their tokens' sum.
        Luspo = "luspo",
        /// A constant weighs log π: 1 where the whole completion's ratio is 1, near 0 where that is far from 1; mean over the
        /// tokens of the step.
        Vespo = "vespo",
    }
}

named! {
    /// What has an importance ratio.
    pub enum RatioLevel {
        /// Each token: πₜ / π_old,ₜ.
        Token = "token",
        /// Each completion: the geometric mean of its tokens' ratios, for all of them (GSPO).
        Sequence = "sequence",
    }
}

named! {
    /// What advantages are divided by. TRL's older true and false are group and none.
    pub enum ScaleRewards {
        /// The deviation of the rewards of the same prompt.
        Group = "group" | "true" | "True",
        /// The deviation of the rewards of all prompts of the batch.
        Batch = "batch",
        /// Nothing: reward less the mean of its prompt (Dr. GRPO).
        None = "none" | "false" | "False",
    }
}

named! {
    /// How several rewards become one advantage.
    pub enum Aggregation {
        /// The weighted sum of rewards is compared within the group, and divided as scale_rewards says.
        SumThenNormalize = "sum_then_normalize",
        /// Each reward is normalised within the group, and their weighted sum once more over the batch (GDPO).
        NormalizeThenSum = "normalize_then_sum",
    }
}

named! {
    /// What REINFORCE compares rewards with.
    pub enum Baseline {
        /// The mean of earlier batches, the older the less (baseline_decay).
        MovingAverage = "moving_average",
        /// The mean of the same batch.
        Batch = "batch",
        /// Nothing: the reward is the advantage.
        None = "none",
    }
}

named! {
    /// Estimators of the KL divergence; see `losses/kl.rs`.
    pub enum KlEstimator {
        /// log π − log π_ref: unbiased, of either sign.
        K1 = "k1",
        /// r − 1 − log r with r = π_ref / π: unbiased, never negative, of lower variance.
        K3 = "k3",
    }
}

named! {
    /// Where PPO's values come from.
    pub enum CriticKind {
        /// A copy of the model with a head, all its weights trained: as much memory again as full training takes.
        Model = "model",
        /// One row of weights on the policy's hidden states, whose gradient reaches the policy.
        Head = "head",
    }
}

/// Several texts. Written as one text they are parted by commas or blanks, unless it has a colon: then it is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items(pub Vec<String>);

impl OptionValue for Items {
    const KIND: Kind =
        Kind::Form("texts: several as a list, or parted by commas or blanks (a text with a colon is one)");
    const OPTIONAL: bool = true;
    fn parse(raw: &Raw, range: Range) -> Option<Self> {
        match raw {
            Raw::Null => Some(Items::default()),
            Raw::Text(text) if text.contains(':') => Some(Items(vec![text.clone()])),
            Raw::Text(text) if text == "none" => Some(Items::default()),
            Raw::List(items) if items.iter().any(String::is_empty) => None,
            Raw::List(items) => Some(Items(items.clone())),
            other => Vec::<String>::parse(other, range).map(Items),
        }
    }
    fn write(&self) -> Value {
        if self.0.is_empty() { Value::Null } else { Value::from(self.0.clone()) }
    }
}

/// Texts, each as it is written: blanks, commas and line ends are part of it, and may be all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl OptionValue for Texts {
    const KIND: Kind =
        Kind::Form("a text, or several as a list (on the command line one after the other, each in quotes)");
    const OPTIONAL: bool = true;
    fn parse(raw: &Raw, _: Range) -> Option<Self> {
        let texts = match raw {
            Raw::Null => Vec::new(),
            Raw::Text(text) => vec![text.clone()],
            Raw::List(texts) => texts.clone(),
            Raw::Other(_) => return None,
        };
        (!texts.iter().any(String::is_empty)).then_some(Texts(texts))
    }
    fn write(&self) -> Value {
        if self.0.is_empty() { Value::Null } else { Value::from(self.0.clone()) }
    }
}

/// Paths, one or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths(pub Vec<PathBuf>);

impl OptionValue for Paths {
    const KIND: Kind = Kind::Form("paths, one after the other");
    fn parse(raw: &Raw, range: Range) -> Option<Self> {
        let texts = Texts::parse(raw, range)?.0;
        (!texts.is_empty()).then(|| Paths(texts.iter().map(|text| with_home(text).into()).collect()))
    }
    fn write(&self) -> Value {
        self.0.iter().map(|path| Value::from(path.to_string_lossy())).collect()
    }
}

/// Several numbers, parted by commas or blanks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers(pub Vec<f64>);

impl OptionValue for Numbers {
    const KIND: Kind = Kind::Form("numbers parted by commas or blanks");
    const OPTIONAL: bool = true;
    fn parse(raw: &Raw, range: Range) -> Option<Self> {
        if *raw == Raw::Null || *raw == Raw::Text("none".into()) {
            return Some(Numbers::default());
        }
        let words = Vec::<String>::parse(raw, range)?;
        words.iter().map(|w| w.parse().ok().filter(|x: &f64| x.is_finite())).collect::<Option<_>>().map(Numbers)
    }
    fn write(&self) -> Value {
        if self.0.is_empty() { Value::Null } else { Value::from(self.0.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::ANY;
    use super::*;

    /// Free text is no list of words.
    #[test]
    fn texts_are_taken_as_they_are() {
        let texts = |raw: Raw| Texts::parse(&raw, ANY).map(|texts| texts.0);
        for one in ["t2f 6", " ", "\n", "a, b", "none", "x: y", "[\"a\"]", "\t"] {
            assert_eq!(texts(Raw::Text(one.into())), Some(vec![one.to_string()]), "{one:?}");
        }
        assert_eq!(texts(Raw::List(vec![" a".into(), "b,".into()])), Some(vec![" a".into(), "b,".into()]));
        assert_eq!(texts(Raw::Null), Some(vec![]));
        assert_eq!(texts(Raw::Text(String::new())), None);
        assert_eq!(texts(Raw::List(vec!["a".into(), String::new()])), None);
        assert_eq!(Paths::parse(&Raw::Text("my run".into()), ANY), Some(Paths(vec!["my run".into()])));
        assert_eq!(Paths::parse(&Raw::Null, ANY), None);
    }

    #[test]
    fn items_and_numbers() {
        let text = |s: &str| Raw::Text(s.into());
        let items = |raw: Raw| Items::parse(&raw, ANY).map(|i| i.0);
        assert_eq!(items(text("exact, length")), Some(vec!["exact".into(), "length".into()]));
        assert_eq!(items(text("regex:a, b")), Some(vec!["regex:a, b".into()]));
        assert_eq!(items(Raw::List(vec!["exact".into(), "program:python3 r.py".into()])).map(|i| i.len()), Some(2));
        assert_eq!(items(text("none")), Some(vec![]));
        assert_eq!(Numbers::parse(&text("1,-0.5"), ANY), Some(Numbers(vec![1.0, -0.5])));
        assert_eq!(Numbers::parse(&text("1,x"), ANY), None);
        for raw in [items(text("exact length")).map(|i| Items(i).write()), Some(Items::default().write())] {
            let value = raw.expect("a value");
            let again = match &value {
                Value::Array(list) => Raw::List(list.iter().filter_map(|v| v.as_str()).map(String::from).collect()),
                _ => Raw::Null,
            };
            assert_eq!(Items::parse(&again, ANY).map(|i| i.write()), Some(value));
        }
    }
}
