//! UTC dates for folder names and records, without a date library.
//!
//! The calendar arithmetic counts days in years that begin on 1 March, so that the leap day is the last day
//! of its year, and in eras of 400 years, which all have 146 097 days.

use std::time::{SystemTime, UNIX_EPOCH};

/// `YYYYMMDD-HHMMSS`, UTC. Sorts as text in the order of time.
pub fn compact_utc(time: SystemTime) -> String {
    let [year, month, day, hour, minute, second] = civil(seconds(time));
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// `YYYY-MM-DDTHH:MM:SSZ`, UTC, as RFC 3339 has it.
pub fn rfc3339_utc(time: SystemTime) -> String {
    let [year, month, day, hour, minute, second] = civil(seconds(time));
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Whole seconds since 1970, rounded down, negative before.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let d = before.duration();
            let whole = i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
            -whole - i64::from(d.subsec_nanos() > 0)
        }
    }
}

/// Year, month, day, hour, minute and second of a Unix time in UTC.
fn civil(seconds: i64) -> [i64; 6] {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let from_march_0 = days + 719_468; // days since 1 March of the year 0
    let (era, of_era) = (from_march_0.div_euclid(146_097), from_march_0.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 31, 30, 31, 30, 31 days and again: 153 days in every five.
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    [year, month, day, of_day / 3_600, of_day / 60 % 60, of_day % 60]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn known_dates() {
        let at = |s| rfc3339_utc(UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(compact_utc(UNIX_EPOCH + Duration::from_secs(1_234_567_890)), "20090213-233130");
        assert_eq!(rfc3339_utc(UNIX_EPOCH - Duration::from_millis(500)), "1969-12-31T23:59:59Z");
    }

    /// Every day of 800 years against a calendar that only counts.
    #[test]
    fn every_day_counted() {
        let (mut year, mut month, mut day) = (1970_i64, 1_i64, 1_i64);
        for n in 0..800 * 365_i64 {
            assert_eq!(civil(n * 86_400 + 86_399), [year, month, day, 23, 59, 59], "day {n}");
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let length = match month {
                2 => 28 + i64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
