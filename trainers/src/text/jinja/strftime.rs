//! The date that `strftime_now` gives a template: Python's `datetime.now().strftime`, as glibc writes it in the C locale.

/// An instant, and how far local time is ahead of UTC then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalTime {
    /// Seconds since 1970 in UTC.
    pub seconds: i64,
    /// Seconds that local time is ahead of UTC.
    pub offset: i64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A local date and time.
struct Date {
    year: i64,
    month: i64,
    day: i64,
    /// From 1.
    day_of_year: i64,
    /// From Sunday = 0.
    weekday: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Date {
    /// Proleptic Gregorian days after H. Hinnant, "chrono-compatible low-level date algorithms".
    fn of(seconds: i64) -> Date {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let era_day = days + 719_468;
        let era = era_day.div_euclid(146_097);
        let day_of_era = era_day.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * from_march + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let day_of_year = if month > 2 { from_march + 60 + i64::from(leap(year)) } else { from_march - 305 };
        Date {
            year,
            month,
            day: from_march - (153 * shifted + 2) / 5 + 1,
            day_of_year,
            weekday: (days + 4).rem_euclid(7),
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    /// Year and week by ISO 8601: the week of a Thursday belongs to its year.
    fn iso_week(&self) -> (i64, i64) {
        let monday_based = (self.weekday + 6) % 7;
        let week = (self.day_of_year - 1 - monday_based + 10) / 7;
        if week < 1 {
            let year = self.year - 1;
            let last = Date { year, day_of_year: self.day_of_year + 365 + i64::from(leap(year)), ..*self };
            return last.iso_week();
        }
        if week == 53 && self.day_of_year - monday_based + 3 > 365 + i64::from(leap(self.year)) {
            return (self.year + 1, 1);
        }
        (self.year, week)
    }
}

fn leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

/// How a field is written: the flags and width between `%` and its letter.
#[derive(Clone, Copy, Default)]
struct Style {
    pad: Option<char>,
    upper: bool,
    swap: bool,
    width: usize,
}

/// `strftime`. Errors: a field that tells what is not known here (microseconds).
pub(super) fn strftime(format: &str, clock: LocalTime) -> Result<String, String> {
    let date = Date::of(clock.seconds + clock.offset);
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let field = &rest[at + 1..];
        let mut style = Style::default();
        let mut chars = field.chars().peekable();
        let mut used = 0;
        while let Some(c) = chars.next_if(|c| matches!(c, '-' | '_' | '0' | '^' | '#')) {
            used += 1;
            match c {
                '^' => style.upper = true,
                '#' => style.swap = true,
                c => style.pad = Some(c),
            }
        }
        while let Some(d) = chars.next_if(char::is_ascii_digit) {
            used += 1;
            style.width = (style.width * 10 + d as usize - '0' as usize).min(1 << 16);
        }
        if chars.next_if(|c| matches!(c, 'E' | 'O')).is_some() {
            used += 1;
        }
        let Some(code) = chars.next() else {
            out.push_str(&rest[at..]);
            return Ok(out);
        };
        used += code.len_utf8();
        if style.width > 10_000 {
            return Err(format!("a date field {} wide", style.width));
        }
        match shown(code, &date, clock, style)? {
            Some(text) => out.push_str(&text),
            // glibc copies what it does not know.
            None => out.push_str(&rest[at..at + 1 + used]),
        }
        rest = &field[used..];
    }
    out.push_str(rest);
    Ok(out)
}

fn shown(code: char, date: &Date, clock: LocalTime, style: Style) -> Result<Option<String>, String> {
    let number = |n: i64, digits: usize, pad: char| {
        let pad = style.pad.unwrap_or(pad);
        let text = n.to_string();
        let width = if style.width > 0 { style.width } else { digits };
        let missing = if pad == '-' && style.width == 0 { 0 } else { width.saturating_sub(text.len()) };
        let fill = if pad == '_' || pad == ' ' { " " } else { "0" };
        Some(fill.repeat(missing) + &text)
    };
    let padded = |text: String| {
        let fill = if style.pad == Some('0') { "0" } else { " " };
        Some(fill.repeat(style.width.saturating_sub(text.chars().count())) + &text)
    };
    let word = |text: String| {
        let text = match (style.upper, style.swap) {
            (true, _) => text.to_uppercase(),
            // AM becomes am; other words become upper case.
            (_, true) if code == 'p' || code == 'Z' => text.to_lowercase(),
            (_, true) => text.to_uppercase(),
            _ => text,
        };
        padded(text)
    };
    // A `#` does not reach into what is made of several fields.
    let compound = |format: &str| -> Result<Option<String>, String> {
        let text = strftime(format, clock)?;
        Ok(padded(if style.upper { text.to_uppercase() } else { text }))
    };
    let month = MONTHS[(date.month - 1).rem_euclid(12) as usize];
    let day = DAYS[date.weekday.rem_euclid(7) as usize];
    let hour12 = if date.hour % 12 == 0 { 12 } else { date.hour % 12 };
    let half = if date.hour < 12 { "AM" } else { "PM" };
    Ok(match code {
        'Y' => number(date.year, 1, '0'),
        'C' => number(date.year.div_euclid(100), 2, '0'),
        'y' => number(date.year.rem_euclid(100), 2, '0'),
        'G' => number(date.iso_week().0, 1, '0'),
        'g' => number(date.iso_week().0.rem_euclid(100), 2, '0'),
        'm' => number(date.month, 2, '0'),
        'd' => number(date.day, 2, '0'),
        'e' => number(date.day, 2, '_'),
        'j' => number(date.day_of_year, 3, '0'),
        'U' => number((date.day_of_year + 6 - date.weekday) / 7, 2, '0'),
        'W' => number((date.day_of_year + 6 - (date.weekday + 6) % 7) / 7, 2, '0'),
        'V' => number(date.iso_week().1, 2, '0'),
        'u' => number(if date.weekday == 0 { 7 } else { date.weekday }, 1, '0'),
        'w' => number(date.weekday, 1, '0'),
        'H' => number(date.hour, 2, '0'),
        'I' => number(hour12, 2, '0'),
        'k' => number(date.hour, 2, '_'),
        'l' => number(hour12, 2, '_'),
        'M' => number(date.minute, 2, '0'),
        'S' => number(date.second, 2, '0'),
        's' => number(clock.seconds, 1, '0'),
        'B' => word(month.into()),
        'b' | 'h' => word(month[..3].into()),
        'A' => word(day.into()),
        'a' => word(day[..3].into()),
        'p' => word(half.into()),
        'P' => padded(half.to_lowercase()),
        'c' => compound("%a %b %e %H:%M:%S %Y")?,
        'x' | 'D' => compound("%m/%d/%y")?,
        'X' | 'T' => compound("%H:%M:%S")?,
        'R' => compound("%H:%M")?,
        'r' => compound("%I:%M:%S %p")?,
        'F' => compound("%Y-%m-%d")?,
        'n' => padded("\n".into()),
        't' => padded("\t".into()),
        '%' => padded("%".into()),
        // Python leaves both out of a date that knows no time zone.
        'z' => Some(String::new()),
        'Z' => padded(String::new()),
        'f' => return Err("%f of strftime_now, which differs from run to run,".into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(format: &str, seconds: i64) -> String {
        strftime(format, LocalTime { seconds, offset: 0 }).unwrap()
    }

    #[test]
    fn dates() {
        // date -u -d @N '+%Y-%m-%d %H:%M:%S %a %j %U %W %V %G'
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 Thu 001 00 00 01 1970"),
            (951_782_400, "2000-02-29 00:00:00 Tue 060 09 09 09 2000"),
            (1_709_251_199, "2024-02-29 23:59:59 Thu 060 08 09 09 2024"),
            (1_735_689_599, "2024-12-31 23:59:59 Tue 366 52 53 01 2025"),
            (1_764_003_723, "2025-11-24 17:02:03 Mon 328 47 47 48 2025"),
            (1_609_459_200, "2021-01-01 00:00:00 Fri 001 00 00 53 2020"),
            (-1, "1969-12-31 23:59:59 Wed 365 52 52 01 1970"),
        ] {
            assert_eq!(at("%Y-%m-%d %H:%M:%S %a %j %U %W %V %G", seconds), text);
        }
        assert_eq!(
            at("%-d %b %Y %B %%|%e|%_m|%10d|%^a|%#p|%Q|%", 1_764_003_723),
            "24 Nov 2025 November %|24|11|0000000024|MON|pm|%Q|%"
        );
        assert!(strftime("%f", LocalTime::default()).is_err());
        assert_eq!(strftime("%H:%M %s", LocalTime { seconds: 0, offset: 5400 }).unwrap(), "01:30 0");
    }
}
