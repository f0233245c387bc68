//! Dates of HTTP (RFC 9110, section 5.6.7), in the three forms that have to be understood.

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// A date in milliseconds since 1970; none where it is no date, or before that.
pub fn parse(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    let comma = value.iter().position(|byte| *byte == b',');
    match comma {
        // Sun, 06 Nov 1994 08:49:37 GMT
        Some(3) => {
            let rest = value.get(4..)?.trim_ascii();
            let mut words = rest.split(|byte| *byte == b' ');
            let (day, month, year) =
                (number(words.next()?, 2)?, self::month(words.next()?)?, number(words.next()?, 4)?);
            let (time, zone) = (words.next()?, words.next()?);
            (zone == b"GMT" && words.next().is_none()).then(|| millis(year, month, day, time)).flatten()
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        Some(at) => {
            let mut words = value.get(at + 1..)?.trim_ascii().split(|byte| *byte == b' ');
            let mut parts = words.next()?.split(|byte| *byte == b'-');
            let (day, month, year) =
                (number(parts.next()?, 2)?, self::month(parts.next()?)?, number(parts.next()?, 2)?);
            let (time, zone) = (words.next()?, words.next()?);
            // Nothing that says how long it is good was made before 1970.
            let year = if year < 70 { 2000 + year } else { 1900 + year };
            (zone == b"GMT" && parts.next().is_none()).then(|| millis(year, month, day, time)).flatten()
        }
        // Sun Nov  6 08:49:37 1994
        None => {
            let mut words = value.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).skip(1);
            let (month, day, time) = (self::month(words.next()?)?, words.next()?, words.next()?);
            let (day, year) = (number(day, day.len().min(2))?, number(words.next()?, 4)?);
            words.next().is_none().then(|| millis(year, month, day, time)).flatten()
        }
    }
}

/// A number of exactly so many digits.
fn number(digits: &[u8], len: usize) -> Option<u64> {
    let is_number = digits.len() == len && len > 0 && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

fn month(name: &[u8]) -> Option<u64> {
    MONTHS.iter().position(|own| *own == name).map(|at| at as u64 + 1)
}

fn millis(year: u64, month: u64, day: u64, time: &[u8]) -> Option<u64> {
    let mut parts = time.split(|byte| *byte == b':');
    let (hour, minute, second) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let is_date = year >= 1970 && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !is_date || parts.next().is_some() {
        return None;
    }
    Some((days(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second) * 1000)
}

/// Days since 1970, by years that begin in March, so that the leap day is the last of its year (after Howard Hinnant's
/// `days_from_civil`).
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    (year * 365 + year / 4 - year / 100 + year / 400 + day_of_year).checked_sub(719_468)
}
