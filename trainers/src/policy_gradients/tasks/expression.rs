//! Arithmetic in text: exact values of expressions with + − * / and parentheses, as fractions.

/// A fraction, reduced, with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// The numerator, with the sign.
    pub n: i128,
    /// The denominator, above 0.
    pub d: i128,
}

impl Fraction {
    fn new(n: i128, d: i128) -> Option<Self> {
        let (mut a, mut b) = (n.unsigned_abs(), d.unsigned_abs());
        while b > 0 {
            (a, b) = (b, a % b);
        }
        let g = i128::try_from(a.max(1)).ok()? * d.signum();
        (d != 0).then(|| Fraction { n: n / g, d: d / g })
    }
}

/// The value of an expression and the whole numbers in it, in order. None for what is no expression, a division by
/// zero, or numbers beyond all bounds.
pub fn evaluate(text: &str) -> Option<(Fraction, Vec<i128>)> {
    let text: Vec<char> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| match c {
            '×' | '·' => '*',
            '÷' => '/',
            '−' => '-',
            c => c,
        })
        .collect();
    if text.len() > 200 {
        return None;
    }
    let mut parser = Parser { text: &text, at: 0, numbers: vec![], depth: 0 };
    let value = parser.sum()?;
    (parser.at == text.len()).then_some((value, parser.numbers))
}

struct Parser<'a> {
    text: &'a [char],
    at: usize,
    numbers: Vec<i128>,
    depth: usize,
}

impl Parser<'_> {
    fn take(&mut self, wanted: &[char]) -> Option<char> {
        let c = self.text.get(self.at).copied().filter(|c| wanted.contains(c))?;
        self.at += 1;
        Some(c)
    }

    /// product (± product)*
    fn sum(&mut self) -> Option<Fraction> {
        let mut left = self.product()?;
        while let Some(op) = self.take(&['+', '-']) {
            let right = self.product()?;
            let sign = if op == '+' { 1 } else { -1 };
            let n = left.n.checked_mul(right.d)?.checked_add(right.n.checked_mul(left.d)?.checked_mul(sign)?)?;
            left = Fraction::new(n, left.d.checked_mul(right.d)?)?;
        }
        Some(left)
    }

    /// factor (* or / factor)*
    fn product(&mut self) -> Option<Fraction> {
        let mut left = self.factor()?;
        while let Some(op) = self.take(&['*', '/']) {
            let right = self.factor()?;
            let (n, d) = if op == '*' { (right.n, right.d) } else { (right.d, right.n) };
            left = Fraction::new(left.n.checked_mul(n)?, left.d.checked_mul(d)?)?;
        }
        Some(left)
    }

    /// A whole number, or a sum in parentheses; either with a minus.
    fn factor(&mut self) -> Option<Fraction> {
        self.depth += 1;
        if self.depth > 50 {
            return None;
        }
        let negative = self.take(&['-']).is_some();
        let value = if self.take(&['(']).is_some() {
            let inside = self.sum()?;
            self.take(&[')'])?;
            inside
        } else {
            let start = self.at;
            while self.text.get(self.at).is_some_and(char::is_ascii_digit) {
                self.at += 1;
            }
            let number: i128 = self.text[start..self.at].iter().collect::<String>().parse().ok()?;
            self.numbers.push(number);
            Fraction::new(number, 1)?
        };
        self.depth -= 1;
        Some(if negative { Fraction { n: -value.n, ..value } } else { value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (text, n, d) in
            [("1+2*3", 7, 1), ("(1 + 2) × 3", 9, 1), ("7/2-1", 5, 2), ("-3*-2", 6, 1), ("8/(3-8/3)", 24, 1)]
        {
            assert_eq!(evaluate(text).map(|(v, _)| v), Some(Fraction { n, d }), "{text}");
        }
        assert_eq!(evaluate("(1+2)*3").map(|(_, numbers)| numbers), Some(vec![1, 2, 3]));
        for text in ["", "1+", "1/0", "1/(2-2)", "a", "1 = 1", "(1", "99999999999999999999999999999999999999999999*9"] {
            assert_eq!(evaluate(text), None, "{text}");
        }
        assert_eq!(evaluate(&"(".repeat(100)), None);
    }
}
