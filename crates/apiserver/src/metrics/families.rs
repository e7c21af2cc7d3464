//! Metrics by their labels, as several parts of the server count: counters and histograms.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;

/// Series of one metric; what would be more is not counted.
const SERIES_MAX: usize = 4096;

/// Counts by the labels as they are written.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<String, u64>>);

impl Counters {
    /// Counts one more.
    pub fn count(&self, labels: String) {
        let mut counters = self.0.lock();
        if counters.len() < SERIES_MAX || counters.contains_key(&labels) {
            *counters.entry(labels).or_default() += 1;
        }
    }

    /// Writes the text; nothing when nothing was counted.
    pub fn render(&self, out: &mut String, name: &str, help: &str) {
        let counters = self.0.lock();
        head(out, name, help, "counter", counters.is_empty());
        for (labels, count) in counters.iter() {
            line(out, format_args!("{name}{{{labels}}} {count}"));
        }
    }
}

/// Times by the labels as they are written, in buckets.
#[derive(Debug)]
pub struct Histograms<const N: usize> {
    bounds: [f64; N],
    series: Mutex<BTreeMap<String, Series<N>>>,
}

#[derive(Debug)]
struct Series<const N: usize> {
    count: u64,
    seconds: f64,
    buckets: [u64; N],
}

impl<const N: usize> Histograms<N> {
    /// Nothing is counted yet; the upper bounds of the buckets are in seconds.
    pub fn new(bounds: [f64; N]) -> Self {
        Self { bounds, series: Mutex::default() }
    }

    /// Counts a time.
    pub fn observe(&self, labels: String, took: Duration) {
        let mut all = self.series.lock();
        if all.len() >= SERIES_MAX && !all.contains_key(&labels) {
            return;
        }
        let none = Series { count: 0, seconds: 0.0, buckets: [0; N] };
        let series = all.entry(labels).or_insert(none);
        let seconds = took.as_secs_f64();
        series.count += 1;
        series.seconds += seconds;
        for (bucket, bound) in series.buckets.iter_mut().zip(self.bounds) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// Writes the text; nothing when nothing was counted.
    pub fn render(&self, out: &mut String, name: &str, help: &str) {
        let all = self.series.lock();
        head(out, name, help, "histogram", all.is_empty());
        for (labels, Series { count, seconds, buckets }) in all.iter() {
            for (below, bound) in buckets.iter().zip(self.bounds) {
                line(out, format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {below}"));
            }
            line(out, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}"));
            line(out, format_args!("{name}_sum{{{labels}}} {seconds}"));
            line(out, format_args!("{name}_count{{{labels}}} {count}"));
        }
    }

    /// Writes how often each was counted, as a metric of its own.
    pub fn render_counts(&self, out: &mut String, name: &str, help: &str) {
        let all = self.series.lock();
        head(out, name, help, "counter", all.is_empty());
        for (labels, series) in all.iter() {
            line(out, format_args!("{name}{{{labels}}} {}", series.count));
        }
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str, empty: bool) {
    if !empty {
        line(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing into a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told() {
        let (counters, times) = (Counters::default(), Histograms::new([0.01, 1.0]));
        let mut out = String::new();
        counters.render(&mut out, "a_total", "[ALPHA] All.");
        times.render(&mut out, "b_seconds", "[BETA] Times.");
        assert_eq!(out, "");
        counters.count("x=\"1\"".to_owned());
        counters.count("x=\"1\"".to_owned());
        times.observe("y=\"2\"".to_owned(), Duration::from_millis(500));
        times.observe("y=\"2\"".to_owned(), Duration::from_secs(2));
        counters.render(&mut out, "a_total", "[ALPHA] All.");
        times.render(&mut out, "b_seconds", "[BETA] Times.");
        times.render_counts(&mut out, "b_total", "[BETA] Calls.");
        let want = "# HELP a_total [ALPHA] All.\n# TYPE a_total counter\na_total{x=\"1\"} 2\n\
            # HELP b_seconds [BETA] Times.\n# TYPE b_seconds histogram\n\
            b_seconds_bucket{y=\"2\",le=\"0.01\"} 0\nb_seconds_bucket{y=\"2\",le=\"1\"} 1\n\
            b_seconds_bucket{y=\"2\",le=\"+Inf\"} 2\nb_seconds_sum{y=\"2\"} 2.5\n\
            b_seconds_count{y=\"2\"} 2\n\
            # HELP b_total [BETA] Calls.\n# TYPE b_total counter\nb_total{y=\"2\"} 2\n";
        assert_eq!(out, want);
        for number in 0..2 * SERIES_MAX {
            counters.count(number.to_string());
        }
        assert_eq!(counters.0.lock().len(), SERIES_MAX);
    }
}
