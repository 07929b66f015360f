//! Days and hours of a time in UTC.
//!
//! The computation of dates from days is that of <https://howardhinnant.github.io/date_algorithms.html>.

/// A time of day on a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// The year.
    pub year: i64,
    /// From 1.
    pub month: i64,
    /// Of the month, from 1.
    pub day: i64,
    /// Of the year, from 1.
    pub day_of_year: i64,
    /// From 0, which is Sunday.
    pub weekday: i64,
    /// From 0.
    pub hour: i64,
    /// From 0.
    pub minute: i64,
    /// From 0.
    pub second: i64,
}

/// Whether a year has 366 days.
fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

impl Date {
    /// The date of seconds since 1970.
    pub fn from_seconds(seconds: i64) -> Self {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let shifted = days.saturating_add(719_468);
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_from_march + 2) / 153;
        let day = day_from_march - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let day_of_year = if month > 2 { day_from_march + 60 + i64::from(is_leap(year)) } else { day_from_march - 305 };
        Self {
            year,
            month,
            day,
            day_of_year,
            weekday: days.saturating_add(4).rem_euclid(7),
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    /// How many days its month has.
    pub fn days_in_month(&self) -> i64 {
        match self.month {
            2 => 28 + i64::from(is_leap(self.year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

/// `2006-01-02T15:04:05Z`
pub(crate) fn rfc3339(seconds: i64) -> String {
    let date = Date::from_seconds(seconds);
    let Date { year, month, day, hour, minute, second, .. } = date;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_over_leap_years_and_before_1970() {
        for (seconds, text, day_of_year, weekday) in [
            (0, "1970-01-01T00:00:00Z", 1, 4),
            (951_782_400, "2000-02-29T00:00:00Z", 60, 2),
            (1_136_239_445, "2006-01-02T22:04:05Z", 2, 1),
            (1_704_067_199, "2023-12-31T23:59:59Z", 365, 0),
            (1_735_603_200, "2024-12-31T00:00:00Z", 366, 2),
            (-1, "1969-12-31T23:59:59Z", 365, 3),
        ] {
            let date = Date::from_seconds(seconds);
            assert_eq!((rfc3339(seconds), date.day_of_year, date.weekday), (text.to_owned(), day_of_year, weekday));
        }
        assert_eq!(Date::from_seconds(951_782_400).days_in_month(), 29);
        let _ = (Date::from_seconds(i64::MAX), Date::from_seconds(i64::MIN));
    }
}
