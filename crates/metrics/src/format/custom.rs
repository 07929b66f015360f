//! Classic histograms to native ones with custom buckets.
//!
//! See <https://prometheus.io/docs/specs/native_histograms/#native-histograms-with-custom-buckets-nhcbs>.

use std::sync::Arc;

use tsdb::{
    column::HistogramValue,
    histogram::{Buckets, CUSTOM_SCHEMA, FloatHistogram, Histogram, Span},
};

/// Buckets of a histogram at most.
const BUCKETS: usize = 10_000;

/// The parts of a classic histogram, as they come.
#[derive(Clone, Debug, Default)]
pub struct Classic {
    /// Bounds, ascending, with all observations up to them.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    wrong: Option<String>,
}

impl Classic {
    /// Begins anew.
    pub fn clear(&mut self) {
        self.buckets.clear();
        self.count = None;
        self.sum = 0.0;
        self.wrong = None;
    }

    /// How many observations are not above a bound.
    pub fn bucket(&mut self, bound: f64, count: f64) {
        let at = self.buckets.partition_point(|bucket| bucket.0 < bound);
        let before = at.checked_sub(1).and_then(|at| self.buckets.get(at));
        let after = self.buckets.get(at);
        let wrong = if bound.is_nan() {
            Some("bucket boundary must not be NaN".to_owned())
        } else if count < 0.0 {
            Some(format!("bucket count must be non-negative: le={bound}, count={count}"))
        } else if after.is_some_and(|after| after.0 == bound) {
            return;
        } else if let Some(before) = before.filter(|before| count < before.1) {
            Some(format!("count is not cumulative: {count} < {}", before.1))
        } else if let Some(after) = after.filter(|after| count > after.1) {
            Some(format!("count is not cumulative: {count} > {}", after.1))
        } else if self.buckets.len() >= BUCKETS {
            Some(format!("more than {BUCKETS} buckets"))
        } else {
            None
        };
        match wrong {
            Some(wrong) => {
                self.wrong.get_or_insert(wrong);
            }
            None => self.buckets.insert(at, (bound, count)),
        }
    }

    /// How many observations there are.
    pub fn count(&mut self, count: f64) {
        if count < 0.0 {
            self.wrong.get_or_insert(format!("count must be non-negative: count={count}"));
        }
        self.count = Some(count);
    }

    /// Their sum.
    pub fn sum(&mut self, sum: f64) {
        self.sum = sum;
    }

    /// The native histogram.
    pub fn convert(&self) -> Result<HistogramValue, String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        let count = self.count.or_else(|| self.buckets.last().map(|last| last.1)).unwrap_or(0.0);
        let mut buckets = self.buckets.clone();
        if buckets.last().is_none_or(|last| last.0 != f64::INFINITY) {
            buckets.push((f64::INFINITY, count));
        }
        let last = buckets.last().map_or(0.0, |last| last.1);
        if last != count {
            return Err(format!("count mismatch: count={count} != le=+Inf count={last}"));
        }
        let custom: Arc<[f64]> = buckets.iter().map(|bucket| bucket.0).filter(|bound| bound.is_finite()).collect();
        let spans = vec![Span { offset: 0, length: buckets.len() as u32 }];
        let whole = |value: f64| value.fract() == 0.0 && value < 9e15;
        if whole(count) && buckets.iter().all(|bucket| whole(bucket.1)) {
            let (mut former, mut last) = (0i64, 0i64);
            let mut values = Vec::with_capacity(buckets.len());
            for (_, total) in &buckets {
                let own = *total as i64 - former;
                values.push(own - last);
                (former, last) = (*total as i64, own);
            }
            let mut histogram = Histogram {
                schema: CUSTOM_SCHEMA,
                count: count as u64,
                sum: self.sum,
                positive: Buckets { spans, values },
                custom,
                ..Histogram::default()
            };
            histogram.compact(2);
            histogram.check().map_err(|error| error.to_string())?;
            return Ok(HistogramValue::Integer(Arc::new(histogram)));
        }
        let mut former = 0.0;
        let mut values = Vec::with_capacity(buckets.len());
        for (_, total) in &buckets {
            values.push(total - former);
            former = *total;
        }
        let mut histogram = FloatHistogram {
            schema: CUSTOM_SCHEMA,
            count,
            sum: self.sum,
            positive: Buckets { spans, values },
            custom,
            ..FloatHistogram::default()
        };
        histogram.compact(0);
        histogram.check().map_err(|error| error.to_string())?;
        Ok(HistogramValue::Float(Arc::new(histogram)))
    }
}
