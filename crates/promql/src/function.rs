//! The functions of the language: names, arguments, results.
//!
//! See <https://prometheus.io/docs/prometheus/latest/querying/functions/>.

use crate::ast::Type::{self, Matrix, Scalar, Text, Vector};

/// How many arguments may follow those that are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// None.
    None,
    /// The last of those named may be left out, or come up to so many times.
    UpTo(usize),
    /// The last of those named may be left out, or come any number of times.
    Any,
}

impl Rest {
    /// As the HTTP API writes it.
    pub fn variadic(self) -> i64 {
        match self {
            Self::None => 0,
            Self::UpTo(count) => count as i64,
            Self::Any => -1,
        }
    }
}

/// A function of the language.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// As it is written.
    pub name: &'static str,
    /// Which one it is.
    pub id: Id,
    /// The types of its arguments.
    pub args: &'static [Type],
    /// What may follow them.
    pub rest: Rest,
    /// The type of its value.
    pub returns: Type,
    /// Whether it has to be switched on.
    pub experimental: bool,
}

/// Finds a function by its name.
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

/// All functions, by name.
pub fn all() -> &'static [Function] {
    FUNCTIONS
}

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Id {
    Abs,
    Absent,
    AbsentOverTime,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    AvgOverTime,
    Ceil,
    Changes,
    Clamp,
    ClampMax,
    ClampMin,
    Cos,
    Cosh,
    CountOverTime,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Deg,
    Delta,
    Deriv,
    DoubleExponentialSmoothing,
    End,
    Exp,
    FirstOverTime,
    Floor,
    HistogramAvg,
    HistogramCount,
    HistogramFraction,
    HistogramQuantile,
    HistogramQuantiles,
    HistogramStddev,
    HistogramStdvar,
    HistogramSum,
    Hour,
    Idelta,
    Increase,
    Info,
    Irate,
    LabelJoin,
    LabelReplace,
    LastOverTime,
    Ln,
    Log10,
    Log2,
    MadOverTime,
    MaxOf,
    MaxOverTime,
    MinOf,
    MinOverTime,
    Minute,
    Month,
    Pi,
    PredictLinear,
    PresentOverTime,
    QuantileOverTime,
    Rad,
    Range,
    Rate,
    Resets,
    Round,
    Scalar,
    Sgn,
    Sin,
    Sinh,
    Sort,
    SortByLabel,
    SortByLabelDesc,
    SortDesc,
    Sqrt,
    Start,
    StartTimestamp,
    StddevOverTime,
    StdvarOverTime,
    Step,
    SumOverTime,
    Tan,
    Tanh,
    Time,
    Timestamp,
    TsOfFirstOverTime,
    TsOfLastOverTime,
    TsOfMaxOverTime,
    TsOfMinOverTime,
    Vector,
    Year,
}

const fn stable(name: &'static str, id: Id, args: &'static [Type], rest: Rest, returns: Type) -> Function {
    Function { name, id, args, rest, returns, experimental: false }
}

const fn experimental(name: &'static str, id: Id, args: &'static [Type], rest: Rest, returns: Type) -> Function {
    Function { name, id, args, rest, returns, experimental: true }
}

#[rustfmt::skip]
const FUNCTIONS: &[Function] = &[
    stable("abs", Id::Abs, &[Vector], Rest::None, Vector),
    stable("absent", Id::Absent, &[Vector], Rest::None, Vector),
    stable("absent_over_time", Id::AbsentOverTime, &[Matrix], Rest::None, Vector),
    stable("acos", Id::Acos, &[Vector], Rest::None, Vector),
    stable("acosh", Id::Acosh, &[Vector], Rest::None, Vector),
    stable("asin", Id::Asin, &[Vector], Rest::None, Vector),
    stable("asinh", Id::Asinh, &[Vector], Rest::None, Vector),
    stable("atan", Id::Atan, &[Vector], Rest::None, Vector),
    stable("atanh", Id::Atanh, &[Vector], Rest::None, Vector),
    stable("avg_over_time", Id::AvgOverTime, &[Matrix], Rest::None, Vector),
    stable("ceil", Id::Ceil, &[Vector], Rest::None, Vector),
    stable("changes", Id::Changes, &[Matrix], Rest::None, Vector),
    stable("clamp", Id::Clamp, &[Vector, Scalar, Scalar], Rest::None, Vector),
    stable("clamp_max", Id::ClampMax, &[Vector, Scalar], Rest::None, Vector),
    stable("clamp_min", Id::ClampMin, &[Vector, Scalar], Rest::None, Vector),
    stable("cos", Id::Cos, &[Vector], Rest::None, Vector),
    stable("cosh", Id::Cosh, &[Vector], Rest::None, Vector),
    stable("count_over_time", Id::CountOverTime, &[Matrix], Rest::None, Vector),
    stable("day_of_month", Id::DayOfMonth, &[Vector], Rest::UpTo(1), Vector),
    stable("day_of_week", Id::DayOfWeek, &[Vector], Rest::UpTo(1), Vector),
    stable("day_of_year", Id::DayOfYear, &[Vector], Rest::UpTo(1), Vector),
    stable("days_in_month", Id::DaysInMonth, &[Vector], Rest::UpTo(1), Vector),
    stable("deg", Id::Deg, &[Vector], Rest::None, Vector),
    stable("delta", Id::Delta, &[Matrix], Rest::None, Vector),
    stable("deriv", Id::Deriv, &[Matrix], Rest::None, Vector),
    experimental("double_exponential_smoothing", Id::DoubleExponentialSmoothing, &[Matrix, Scalar, Scalar], Rest::None, Vector),
    experimental("end", Id::End, &[], Rest::None, Scalar),
    stable("exp", Id::Exp, &[Vector], Rest::None, Vector),
    stable("first_over_time", Id::FirstOverTime, &[Matrix], Rest::None, Vector),
    stable("floor", Id::Floor, &[Vector], Rest::None, Vector),
    stable("histogram_avg", Id::HistogramAvg, &[Vector], Rest::None, Vector),
    stable("histogram_count", Id::HistogramCount, &[Vector], Rest::None, Vector),
    stable("histogram_fraction", Id::HistogramFraction, &[Scalar, Scalar, Vector], Rest::None, Vector),
    stable("histogram_quantile", Id::HistogramQuantile, &[Scalar, Vector], Rest::None, Vector),
    experimental("histogram_quantiles", Id::HistogramQuantiles, &[Vector, Text, Scalar, Scalar], Rest::UpTo(9), Vector),
    stable("histogram_stddev", Id::HistogramStddev, &[Vector], Rest::None, Vector),
    stable("histogram_stdvar", Id::HistogramStdvar, &[Vector], Rest::None, Vector),
    stable("histogram_sum", Id::HistogramSum, &[Vector], Rest::None, Vector),
    stable("hour", Id::Hour, &[Vector], Rest::UpTo(1), Vector),
    stable("idelta", Id::Idelta, &[Matrix], Rest::None, Vector),
    stable("increase", Id::Increase, &[Matrix], Rest::None, Vector),
    experimental("info", Id::Info, &[Vector, Vector], Rest::UpTo(1), Vector),
    stable("irate", Id::Irate, &[Matrix], Rest::None, Vector),
    stable("label_join", Id::LabelJoin, &[Vector, Text, Text, Text], Rest::Any, Vector),
    stable("label_replace", Id::LabelReplace, &[Vector, Text, Text, Text, Text], Rest::None, Vector),
    stable("last_over_time", Id::LastOverTime, &[Matrix], Rest::None, Vector),
    stable("ln", Id::Ln, &[Vector], Rest::None, Vector),
    stable("log10", Id::Log10, &[Vector], Rest::None, Vector),
    stable("log2", Id::Log2, &[Vector], Rest::None, Vector),
    experimental("mad_over_time", Id::MadOverTime, &[Matrix], Rest::None, Vector),
    experimental("max_of", Id::MaxOf, &[Scalar, Scalar], Rest::None, Scalar),
    stable("max_over_time", Id::MaxOverTime, &[Matrix], Rest::None, Vector),
    experimental("min_of", Id::MinOf, &[Scalar, Scalar], Rest::None, Scalar),
    stable("min_over_time", Id::MinOverTime, &[Matrix], Rest::None, Vector),
    stable("minute", Id::Minute, &[Vector], Rest::UpTo(1), Vector),
    stable("month", Id::Month, &[Vector], Rest::UpTo(1), Vector),
    stable("pi", Id::Pi, &[], Rest::None, Scalar),
    stable("predict_linear", Id::PredictLinear, &[Matrix, Scalar], Rest::None, Vector),
    stable("present_over_time", Id::PresentOverTime, &[Matrix], Rest::None, Vector),
    stable("quantile_over_time", Id::QuantileOverTime, &[Scalar, Matrix], Rest::None, Vector),
    stable("rad", Id::Rad, &[Vector], Rest::None, Vector),
    experimental("range", Id::Range, &[], Rest::None, Scalar),
    stable("rate", Id::Rate, &[Matrix], Rest::None, Vector),
    stable("resets", Id::Resets, &[Matrix], Rest::None, Vector),
    stable("round", Id::Round, &[Vector, Scalar], Rest::UpTo(1), Vector),
    stable("scalar", Id::Scalar, &[Vector], Rest::None, Scalar),
    stable("sgn", Id::Sgn, &[Vector], Rest::None, Vector),
    stable("sin", Id::Sin, &[Vector], Rest::None, Vector),
    stable("sinh", Id::Sinh, &[Vector], Rest::None, Vector),
    stable("sort", Id::Sort, &[Vector], Rest::None, Vector),
    experimental("sort_by_label", Id::SortByLabel, &[Vector, Text], Rest::Any, Vector),
    experimental("sort_by_label_desc", Id::SortByLabelDesc, &[Vector, Text], Rest::Any, Vector),
    stable("sort_desc", Id::SortDesc, &[Vector], Rest::None, Vector),
    stable("sqrt", Id::Sqrt, &[Vector], Rest::None, Vector),
    experimental("start", Id::Start, &[], Rest::None, Scalar),
    experimental("start_timestamp", Id::StartTimestamp, &[Vector], Rest::None, Vector),
    stable("stddev_over_time", Id::StddevOverTime, &[Matrix], Rest::None, Vector),
    stable("stdvar_over_time", Id::StdvarOverTime, &[Matrix], Rest::None, Vector),
    experimental("step", Id::Step, &[], Rest::None, Scalar),
    stable("sum_over_time", Id::SumOverTime, &[Matrix], Rest::None, Vector),
    stable("tan", Id::Tan, &[Vector], Rest::None, Vector),
    stable("tanh", Id::Tanh, &[Vector], Rest::None, Vector),
    stable("time", Id::Time, &[], Rest::None, Scalar),
    stable("timestamp", Id::Timestamp, &[Vector], Rest::None, Vector),
    experimental("ts_of_first_over_time", Id::TsOfFirstOverTime, &[Matrix], Rest::None, Vector),
    experimental("ts_of_last_over_time", Id::TsOfLastOverTime, &[Matrix], Rest::None, Vector),
    experimental("ts_of_max_over_time", Id::TsOfMaxOverTime, &[Matrix], Rest::None, Vector),
    experimental("ts_of_min_over_time", Id::TsOfMinOverTime, &[Matrix], Rest::None, Vector),
    stable("vector", Id::Vector, &[Scalar], Rest::None, Vector),
    stable("year", Id::Year, &[Vector], Rest::UpTo(1), Vector),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_sorted_so_that_they_are_found() {
        assert!(FUNCTIONS.is_sorted_by_key(|function| function.name));
        assert!(FUNCTIONS.iter().all(|function| find(function.name) == Some(function)));
        assert_eq!(find("nothing"), None);
    }
}
