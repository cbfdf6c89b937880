//! The families of questions: how each is made at a level of difficulty, and how its answers are checked.
use super::expression::{Fraction, evaluate};
use super::{Dials, Dice, Question};
use crate::policy_gradients::final_answer::{last_number, same_number};
use serde_json::{Value, json};

/// One family.
pub struct TaskFamily {
    /// As `task:NAME` has it.
    pub name: &'static str,
    /// What is asked, and what the dials mean.
    pub about: &'static str,
    /// (name, least, greatest).
    pub dials: &'static [(&'static str, u64, u64)],
    /// A question with these dials; the same dice give the same question.
    pub make: fn(&Dials, &mut Dice) -> Question,
    /// (answer, facts, text) → whether the text is right.
    pub check: fn(&str, &Value, &str) -> bool,
}

impl std::fmt::Debug for TaskFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const LEVEL: (&str, u64, u64) = ("level", 1, 9);

/// All of them.
pub const FAMILIES: &[TaskFamily] = &[
    TaskFamily {
        name: "addition",
        about: "a + b; `digits` of each",
        dials: &[LEVEL, ("digits", 1, 15)],
        make: addition,
        check: by_number,
    },
    TaskFamily {
        name: "multiplication",
        about: "a · b; `digits` of each",
        dials: &[LEVEL, ("digits", 1, 8)],
        make: multiplication,
        check: by_number,
    },
    TaskFamily {
        name: "chain",
        about: "sums, differences and products of several numbers; `terms`, and `max` the largest",
        dials: &[LEVEL, ("terms", 2, 12), ("max", 1, 100_000)],
        make: chain,
        check: by_number,
    },
    TaskFamily {
        name: "countdown",
        about: "an expression from given numbers that gives a target; `numbers`",
        dials: &[LEVEL, ("numbers", 2, 6)],
        make: countdown,
        check: by_expression,
    },
    TaskFamily {
        name: "sorting",
        about: "numbers in ascending order; `length`, and `max` the largest",
        dials: &[LEVEL, ("length", 2, 30), ("max", 1, 1_000_000)],
        make: sorting,
        check: by_list,
    },
    TaskFamily {
        name: "letters",
        about: "how often a letter occurs in a made-up word; `length`",
        dials: &[LEVEL, ("length", 2, 60)],
        make: letters,
        check: by_number,
    },
    TaskFamily {
        name: "bases",
        about: "a number in another base; `max` the largest",
        dials: &[LEVEL, ("max", 2, 1_000_000_000)],
        make: bases,
        check: by_last_word,
    },
    TaskFamily {
        name: "logic",
        about: "whether a statement of true, false, and, or, not is true; `depth`",
        dials: &[LEVEL, ("depth", 1, 6)],
        make: logic,
        check: by_truth,
    },
    TaskFamily {
        name: "sequences",
        about: "the next number of a sequence; `length` of what is shown",
        dials: &[LEVEL, ("length", 3, 12)],
        make: sequences,
        check: by_number,
    },
    TaskFamily {
        name: "units",
        about: "an amount in another unit; `max` the largest amount",
        dials: &[LEVEL, ("max", 1, 1_000_000)],
        make: units,
        check: by_number,
    },
    TaskFamily {
        name: "reverse",
        about: "a made-up word backwards; `length`",
        dials: &[LEVEL, ("length", 2, 40)],
        make: reverse,
        check: by_last_word,
    },
];

fn question(text: String, short: String, answer: impl ToString) -> Question {
    Question { text, short, answer: answer.to_string(), facts: Value::Null }
}

/// A number of at most `digits` digits.
fn number(digits: u64, dice: &mut Dice) -> u64 {
    dice.below(10u64.pow(digits as u32))
}

fn addition(dials: &Dials, dice: &mut Dice) -> Question {
    let digits = dials.get("digits", dials.level());
    let (a, b) = (number(digits, dice), number(digits, dice));
    question(format!("What is {a} + {b}? Answer with the number only."), format!("{a}+{b}="), a + b)
}

fn multiplication(dials: &Dials, dice: &mut Dice) -> Question {
    let digits = dials.get("digits", dials.level().div_ceil(2));
    let (a, b) = (number(digits, dice), number(digits, dice));
    question(format!("What is {a} × {b}? Answer with the number only."), format!("{a}*{b}="), a * b)
}

/// Terms joined by + and −, one in four of them a product; worked out by the same parser that checks countdown.
fn chain(dials: &Dials, dice: &mut Dice) -> Question {
    let (terms, max) = (dials.get("terms", dials.level() + 1), dials.get("max", 9 + 10 * (dials.level() - 1)));
    let mut expression = dice.below(max + 1).to_string();
    for _ in 1..terms {
        let op = *dice.pick(&["+", "-", "+", "*"]);
        let operand = if op == "*" { dice.between(1, max.min(9)) } else { dice.below(max + 1) };
        expression += &format!("{op}{operand}");
    }
    let value = evaluate(&expression).map_or(0, |(v, _)| v.n);
    let spaced: String =
        expression.chars().map(|c| if c.is_ascii_digit() { c.to_string() } else { format!(" {c} ") }).collect();
    question(format!("What is {spaced}? Answer with the number only."), format!("{expression}="), value)
}

/// The target is made from all the numbers, so that there is a way.
fn countdown(dials: &Dials, dice: &mut Dice) -> Question {
    let n = dials.get("numbers", 2 + dials.level() / 3).max(2);
    loop {
        let numbers: Vec<u64> = (0..n).map(|_| dice.between(1, 9 + 5 * dials.level())).collect();
        let mut way = numbers[0].to_string();
        for number in &numbers[1..] {
            way = format!("({way}{}{number})", dice.pick(&['+', '-', '*']));
        }
        let Some((Fraction { n: target, d: 1 }, _)) = evaluate(&way) else { continue };
        if !(1..1000).contains(&target) {
            continue;
        }
        let list = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        return Question {
            text: format!(
                "Use each of the numbers {list} exactly once with + - * / and parentheses to make {target}. Answer \
                 with the expression only."
            ),
            short: format!("{}={target}:", list.replace(", ", " ")),
            answer: way,
            facts: json!({"numbers": numbers, "target": target as i64}),
        };
    }
}

fn sorting(dials: &Dials, dice: &mut Dice) -> Question {
    let (length, max) = (dials.get("length", 2 + dials.level()), dials.get("max", 9 * dials.level().pow(2)));
    let numbers: Vec<u64> = (0..length).map(|_| dice.below(max + 1)).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    let list = |x: &[u64], between: &str| x.iter().map(u64::to_string).collect::<Vec<_>>().join(between);
    question(
        format!(
            "Sort these numbers in ascending order: {}. Answer with the sorted numbers only.",
            list(&numbers, ", ")
        ),
        format!("sort {}: ", list(&numbers, " ")),
        list(&sorted, " "),
    )
}

fn word(length: u64, alphabet: u64, dice: &mut Dice) -> String {
    (0..length).map(|_| char::from(b'a' + dice.below(alphabet) as u8)).collect()
}

fn letters(dials: &Dials, dice: &mut Dice) -> Question {
    let word = word(dials.get("length", 3 + 2 * dials.level()), 5, dice);
    let letter = char::from(b'a' + dice.below(5) as u8);
    let n = word.chars().filter(|c| *c == letter).count();
    question(
        format!("How often does the letter {letter} occur in \"{word}\"? Answer with the number only."),
        format!("{letter} in {word}: "),
        n,
    )
}

fn reverse(dials: &Dials, dice: &mut Dice) -> Question {
    let word = word(dials.get("length", 2 + dials.level()), 26, dice);
    let answer: String = word.chars().rev().collect();
    question(format!("Write \"{word}\" backwards. Answer with the word only."), format!("reverse {word}: "), answer)
}

/// Digits of n in a base up to 16, the largest place first.
fn in_base(mut n: u64, base: u64) -> String {
    let mut digits = vec![];
    while n > 0 || digits.is_empty() {
        digits.push(char::from_digit((n % base) as u32, base as u32).unwrap_or('?'));
        n /= base;
    }
    digits.iter().rev().collect()
}

fn bases(dials: &Dials, dice: &mut Dice) -> Question {
    let n = dice.below(dials.get("max", 15 * 4u64.pow(dials.level() as u32 - 1)) + 1);
    let bases: &[u64] = if dials.level() < 3 { &[2] } else { &[2, 3, 8, 16] };
    let base = *dice.pick(bases);
    question(
        format!("Write the decimal number {n} in base {base}. Answer with the digits only."),
        format!("{n} base {base}: "),
        in_base(n, base),
    )
}

/// A statement and whether it is true.
fn statement(depth: u64, dice: &mut Dice) -> (String, bool) {
    if depth == 0 {
        let value = dice.below(2) == 1;
        return (value.to_string(), value);
    }
    match dice.below(3) {
        0 => {
            let (text, value) = statement(depth - 1, dice);
            (format!("not {text}"), !value)
        }
        op => {
            let ((a, x), (b, y)) = (statement(depth - 1, dice), statement(depth - 1, dice));
            if op == 1 { (format!("({a} and {b})"), x && y) } else { (format!("({a} or {b})"), x || y) }
        }
    }
}

fn logic(dials: &Dials, dice: &mut Dice) -> Question {
    let (text, value) = statement(dials.get("depth", (2 + dials.level() / 2).min(6)), dice);
    question(
        format!("Is this statement true or false: {text}? Answer with one word, true or false."),
        format!("{text}: "),
        value,
    )
}

fn sequences(dials: &Dials, dice: &mut Dice) -> Question {
    let (length, level) = (dials.get("length", 5), dials.level());
    let (start, step) = (dice.below(10 * level + 1) as i64, dice.between(1, 2 + 3 * level) as i64);
    // From level 3 on also steps that grow, from level 5 on also factors.
    let kind = dice.below(if level < 3 {
        1
    } else if level < 5 {
        2
    } else {
        3
    });
    let (mut x, mut step_now) = (start.max(1), step);
    let mut all = vec![];
    for _ in 0..=length {
        all.push(x);
        match kind {
            0 => x += step,
            1 => {
                x += step_now;
                step_now += 1;
            }
            _ => x *= 2 + step % 2,
        }
    }
    let shown = all[..length as usize].iter().map(i64::to_string).collect::<Vec<_>>();
    question(
        format!("What number comes next: {}? Answer with the number only.", shown.join(", ")),
        format!("{}>", shown.join(" ")),
        all[length as usize],
    )
}

/// (of the larger unit, of the smaller, how many).
const UNITS: &[(&str, &str, u64)] = &[
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("metres", "centimetres", 100),
    ("kilometres", "metres", 1000),
    ("kilograms", "grams", 1000),
    ("feet", "inches", 12),
    ("yards", "feet", 3),
    ("dozens", "pieces", 12),
];

/// From level 4 on also from the smaller unit to the larger.
fn units(dials: &Dials, dice: &mut Dice) -> Question {
    let (large, small, factor) = *dice.pick(UNITS);
    let n = dice.between(1, dials.get("max", 10 * dials.level()));
    let up = dials.level() >= 4 && dice.below(2) == 1;
    let (from, to, amount, answer) = if up { (small, large, n * factor, n) } else { (large, small, n, n * factor) };
    question(
        format!("How many {to} are {amount} {from}? Answer with the number only."),
        format!("{amount} {from} in {to}: "),
        answer,
    )
}

/// The last number of the text is the answer.
fn by_number(answer: &str, _: &Value, text: &str) -> bool {
    last_number(text).zip(answer.parse::<f64>().ok()).is_some_and(|(a, b)| same_number(a, b))
}

/// The last word of the text is the answer.
fn by_last_word(answer: &str, _: &Value, text: &str) -> bool {
    let last = text.split(|c: char| !c.is_alphanumeric()).rfind(|w| !w.is_empty());
    last.is_some_and(|w| w.eq_ignore_ascii_case(answer))
}

/// The only, or the last, of the words true and false is the answer.
fn by_truth(answer: &str, _: &Value, text: &str) -> bool {
    let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_ascii_lowercase);
    words.rev().find(|w| w == "true" || w == "false").is_some_and(|w| w == answer)
}

/// The numbers of the last line that has any are those of the answer, in its order.
fn by_list(answer: &str, _: &Value, text: &str) -> bool {
    let numbers = |line: &str| -> Vec<String> {
        line.split(|c: char| !c.is_ascii_digit()).filter(|w| !w.is_empty()).map(String::from).collect()
    };
    text.lines().rev().map(numbers).find(|n| !n.is_empty()).is_some_and(|found| found == numbers(answer))
}

/// The text (or its last line, or what stands before `=`) is an expression of the given numbers that gives the target.
fn by_expression(_: &str, facts: &Value, text: &str) -> bool {
    let target = facts["target"].as_i64();
    let mut given: Vec<i128> =
        facts["numbers"].as_array().into_iter().flatten().filter_map(|n| n.as_i64().map(i128::from)).collect();
    given.sort_unstable();
    let line = text.trim().lines().last().unwrap_or("");
    let expression = line.split('=').next().unwrap_or("").trim_matches(|c: char| c.is_whitespace() || c == '.');
    let Some((value, mut used)) = evaluate(expression) else { return false };
    used.sort_unstable();
    value.d == 1 && Some(value.n) == target.map(i128::from) && used == given && !given.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_read_answers_as_people_write_them() {
        assert!(by_number("51", &Value::Null, "15 + 36 = 51."));
        assert!(!by_number("51", &Value::Null, "51? No, 52."));
        assert!(by_list("1 2 30", &Value::Null, "Sorted:\n1, 2, 30\n"));
        assert!(!by_list("1 2 30", &Value::Null, "1, 30, 2"));
        assert!(by_last_word("101", &Value::Null, "5 is 101."));
        assert!(by_truth("false", &Value::Null, "It is False."));
        assert!(!by_truth("true", &Value::Null, "neither"));
    }

    #[test]
    fn countdown_wants_each_number_once() {
        let facts = json!({"numbers": [3, 5, 2], "target": 16});
        for (text, right) in [
            ("(3+5)*2", true),
            ("2 × (5 + 3) = 16", true),
            ("3*5+2-1", false),
            ("8*2", false),
            ("(3+5)*2*1", false),
            ("16", false),
        ] {
            assert_eq!(by_expression("", &facts, text), right, "{text}");
        }
    }

    #[test]
    fn answers_by_hand() {
        assert_eq!(in_base(10, 2), "1010");
        assert_eq!(in_base(255, 16), "ff");
        assert_eq!(in_base(0, 2), "0");
    }
}
