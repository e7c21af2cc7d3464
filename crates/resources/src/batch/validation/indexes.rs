//! Texts of indexes such as `0-2,5`.
//!
//! upstream: pkg/apis/batch/validation/validation.go validateIndexesFormat

/// How many indexes a text names; the error says what is wrong with it.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut last, mut total) = (None, 0);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (start, end) = self::interval(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= start) {
            return Err(format!("non-increasing order, previous: {last}, current: {start}"));
        }
        total += end - start + 1;
        last = Some(end);
    }
    Ok(total)
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let limits: Vec<&str> = text.split('-').collect();
    if limits.len() > 2 {
        return Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let number = |text: &str| -> Result<i64, String> {
        let number = text
            .parse::<i64>()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= completions {
            return Err(format!("too large index: {text:?}"));
        }
        Ok(number)
    };
    let start = number(limits[0])?;
    let Some(end) = limits.get(1) else { return Ok((start, start)) };
    let end = number(end)?;
    if start >= end {
        return Err(format!("non-increasing order, previous: {start}, current: {end}"));
    }
    Ok((start, end))
}

/// The first index that both texts name; broken intervals are passed over.
pub(super) fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|t| interval(t, completions).ok()).collect()
    };
    let (completed, failed) = (intervals(completed), intervals(failed));
    completed
        .iter()
        .flat_map(|c| failed.iter().map(move |f| (c, f)))
        .find(|(c, f)| c.0 <= f.1 && f.0 <= c.1)
        .map(|(c, f)| c.0.max(f.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted() {
        for (text, want) in [
            ("", Ok(0)),
            ("0", Ok(1)),
            ("0-2,5", Ok(4)),
            ("2,1", Err("non-increasing order, previous: 2, current: 1".to_owned())),
            ("9", Err("too large index: \"9\"".to_owned())),
            ("x", Err("cannot convert string to integer for index: \"x\"".to_owned())),
        ] {
            assert_eq!(count(text, 9), want, "{text}");
        }
        assert_eq!(overlap("0-2", "2-3", 9), Some(2));
        assert_eq!(overlap("0-1", "2-3", 9), None);
    }
}
