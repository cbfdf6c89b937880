//! Answers in two columns, and the summary as a table: for a terminal.
use super::Contests;
use crate::judges::constitutional::readable;

/// Lines of at most `width` characters; words longer than that are cut.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut open = String::new();
        for word in paragraph.split_whitespace() {
            let mut word: Vec<char> = word.chars().collect();
            if !open.is_empty() && open.chars().count() + 1 + word.len() > width {
                lines.push(std::mem::take(&mut open));
            }
            while word.len() > width {
                lines.push(word.drain(..width).collect());
            }
            if !open.is_empty() {
                open.push(' ');
            }
            open.extend(word);
        }
        lines.push(open);
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// Two texts beside each other, `width` characters in all.
fn columns(left: &str, right: &str, width: usize) -> String {
    let each = (width.saturating_sub(3) / 2).max(1);
    let (left, right) = (wrapped(left, each), wrapped(right, each));
    let line = |lines: &[String], i: usize| lines.get(i).cloned().unwrap_or_default();
    (0..left.len().max(right.len()).max(1))
        .map(|i| format!("{:each$} │ {}", line(&left, i), line(&right, i)).trim_end().to_string() + "\n")
        .collect()
}

/// The first `n` contests, then the summary.
pub fn text(contests: &Contests, n: usize, width: usize) -> String {
    let mut text = String::new();
    let [a, b] = &contests.labels;
    for contest in contests.all.iter().take(n) {
        let prompt = contest.row.fields.get("prompt").map(readable).unwrap_or_default();
        text += &wrapped(&prompt, width).join("\n");
        text += "\n";
        text += &columns(&format!("[{a}]"), &format!("[{b}]"), width);
        text += &columns(&contest.answers[0].answer.text, &contest.answers[1].answer.text, width);
        match contest.rank {
            Some(rank) => {
                text += &format!("better: {}\n\n", contests.labels.get(rank as usize).map_or("neither", String::as_str))
            }
            None => text += "\n",
        }
    }
    text + &table(contests)
}

/// The summary with aligned columns.
pub fn table(contests: &Contests) -> String {
    let head = ["".to_string(), contests.labels[0].clone(), contests.labels[1].clone()];
    let rows = contests.summary().into_iter().map(|line| {
        let mut values = line.values.into_iter();
        [line.name, values.next().unwrap_or_default(), values.next().unwrap_or_default()]
    });
    let rows: Vec<[String; 3]> = std::iter::once(head).chain(rows).collect();
    let widths: Vec<usize> = (0..3).map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 3]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:w$}")).collect();
        cells.join("  ").trim_end().to_string() + "\n"
    };
    let mut text: String = rows.iter().map(line).collect();
    for note in contests.notes() {
        text += &format!("({note})\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_columns() {
        assert_eq!(wrapped("a bc def\n\nghijkl", 4), ["a bc", "def", "", "ghij", "kl"]);
        assert_eq!(wrapped("äöü abc", 3), ["äöü", "abc"]);
        assert_eq!(wrapped("", 3), [""; 0]);
        assert_eq!(columns("a b", "c", 5), "a │ c\nb │\n");
    }
}
