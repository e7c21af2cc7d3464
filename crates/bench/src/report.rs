//! The table at the end.

use std::fmt;

/// What a number should be.
#[derive(Clone, Copy)]
pub enum Goal {
    /// Nobody has set one.
    None,
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
}

struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Goal,
}

/// The numbers so far.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a number and shows it at once.
    pub fn add(&mut self, name: &str, value: f64, unit: &'static str, goal: Goal) {
        eprintln!("{name}: {} {unit}", number(value));
        self.rows.push(Row { name: name.to_owned(), value, unit, goal });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| measured | value | goal | |\n|---|---:|---:|---|")?;
        for Row { name, value, unit, goal } in &self.rows {
            let (text, met) = match *goal {
                Goal::None => (String::new(), true),
                Goal::AtMost(most) => (format!("<= {} {unit}", number(most)), *value <= most),
                Goal::AtLeast(least) => (format!(">= {} {unit}", number(least)), *value >= least),
            };
            let verdict = match (text.is_empty(), met) {
                (true, _) => "",
                (_, true) => "met",
                (_, false) => "MISSED",
            };
            writeln!(f, "| {name} | {} {unit} | {text} | {verdict} |", number(*value))?;
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The middle of the values; 0 when there is none.
pub fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value that this part of the values does not exceed; 0 when there is none.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = ((values.len() as f64 * part).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    values.get(index).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(&mut (1..=100).map(f64::from).collect::<Vec<_>>(), 0.99), 99.0);
        assert_eq!(median(&mut []), 0.0);
    }

    #[test]
    fn a_missed_goal_is_said() {
        let mut report = Report::default();
        report.add("a", 2.0, "ms", Goal::AtMost(1.0));
        report.add("b", 2.0, "x", Goal::AtLeast(1.0));
        let text = report.to_string();
        assert!(text.contains("| a | 2.00 ms | <= 1.00 ms | MISSED |"), "{text}");
        assert!(text.contains("| b | 2.00 x | >= 1.00 x | met |"), "{text}");
    }
}
