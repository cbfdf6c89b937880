//! What lm-eval leaves to Python: lists as they are printed, and `random.Random(seed).sample`.
use rand_mt::Mt;
use serde_json::Value;

/// A list as Python prints it (`['a', "b's", 1]`): `ast.literal_eval` of texts, whole numbers, floats, True, False, None and lists of
/// them. None where the text is none.
pub fn literal(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text.trim() };
    let value = reader.value()?;
    reader.rest.trim_start().is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn value(&mut self) -> Option<Value> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '[' => self.list(),
            quote @ ('\'' | '"') => self.text(quote).map(Value::from),
            _ => {
                let end = self.rest.find([',', ']']).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                match word.trim() {
                    "True" => Some(Value::from(true)),
                    "False" => Some(Value::from(false)),
                    "None" => Some(Value::Null),
                    number => number
                        .parse::<i64>()
                        .map(Value::from)
                        .ok()
                        .or_else(|| number.parse::<f64>().ok().map(Value::from)),
                }
            }
        }
    }

    fn list(&mut self) -> Option<Value> {
        self.rest = &self.rest[1..];
        let mut all = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(']') {
                self.rest = rest;
                return Some(Value::Array(all));
            }
            all.push(self.value()?);
            self.rest = self.rest.trim_start();
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => self.rest.starts_with(']').then_some(())?,
            }
        }
    }

    fn text(&mut self, quote: char) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[i + c.len_utf8()..];
                    return Some(out);
                }
                '\\' => match chars.next()?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    digits @ ('x' | 'u' | 'U') => {
                        let n = match digits {
                            'x' => 2,
                            'u' => 4,
                            _ => 8,
                        };
                        let hex: String = chars.by_ref().take(n).map(|(_, c)| c).collect();
                        out.push(char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?);
                    }
                    c @ ('\\' | '\'' | '"') => out.push(c),
                    other => out.extend(['\\', other]),
                },
                c => out.push(c),
            }
        }
        None
    }
}

/// Python's `random.Random(seed)`: M. Matsumoto and T. Nishimura's Mersenne Twister, seeded with an array of one word.
pub struct PythonRandom(Mt);

impl PythonRandom {
    /// For a seed below 2³².
    pub fn new(seed: u32) -> Self {
        PythonRandom(Mt::new_with_key([seed]))
    }

    /// A whole number below `n` > 0, below 2³²: CPython's `_randbelow_with_getrandbits`.
    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let number = (self.0.next_u32() >> (32 - bits.clamp(1, 32))) as usize;
            if number < n {
                return number;
            }
        }
    }

    /// The places of `k` of `n` things in the order drawn; `k` ≤ `n`. CPython's `Random.sample`.
    pub fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut set_size = 21;
        if k > 5 {
            set_size += 4usize.pow((k as f64 * 3.0).log(4.0).ceil() as u32);
        }
        let mut drawn = Vec::with_capacity(k);
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            for i in 0..k {
                let j = self.below(n - i);
                drawn.push(pool[j]);
                pool[j] = pool[n - i - 1];
            }
        } else {
            while drawn.len() < k {
                let j = self.below(n);
                if !drawn.contains(&j) {
                    drawn.push(j);
                }
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_as_python_prints_them() {
        assert_eq!(
            literal(r#"['a', "b's", 'c\'d\n', 'é\xe9', 3, 2.5, True]"#),
            Some(json!(["a", "b's", "c'd\n", "éé", 3, 2.5, true]))
        );
        assert_eq!(literal("[ ]"), Some(json!([])));
        assert_eq!(literal("7"), Some(json!(7)));
        for wrong in ["[1, ", "['a' 'b']", "['a", "[1] 2", "x"] {
            assert_eq!(literal(wrong), None, "{wrong}");
        }
    }

    /// Made with CPython 3.11: `r = random.Random(1234); r.sample(range(10), 3); r.sample(range(100), 6); r.sample(range(7), 7)`.
    #[test]
    fn pythons_own_samples() {
        let mut random = PythonRandom::new(1234);
        assert_eq!(random.sample(10, 3), SAMPLES.0);
        assert_eq!(random.sample(100, 6), SAMPLES.1);
        assert_eq!(random.sample(7, 7), SAMPLES.2);
    }

    const SAMPLES: ([usize; 3], [usize; 6], [usize; 7]) = ([7, 1, 0], [11, 74, 4, 85, 88, 10], [0, 2, 1, 6, 3, 5, 4]);
}
