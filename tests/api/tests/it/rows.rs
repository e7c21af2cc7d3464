//! Every row of the conformance list that concerns the wire has a scenario, or a reason.

use std::collections::BTreeMap;
use std::path::Path;

use longshore_test_api::scenario::Library;

/// The list of behaviours; it lies beside the repository where there is one.
const ROWS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/facts/conformance-behaviours.tsv");
/// Rows of the area without a scenario: the reason, a tabulator, the title.
const OTHERS: &str = include_str!("../../elsewhere.tsv");
/// The area whose rows must all be accounted for.
const AREA: &str = "api-machinery";

#[test]
fn every_row_is_accounted_for() {
    let library = Library::read(Path::new(crate::scenarios::CASES)).unwrap();
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for scenario in &library.scenarios {
        for title in &scenario.proves {
            places.entry(title).or_default().push(&scenario.name);
        }
    }
    for line in OTHERS.lines() {
        let (reason, title) = line.split_once('\t').expect("a reason and a title");
        assert!(!reason.is_empty(), "{title} has no reason");
        let proved = places.insert(title, vec!["elsewhere.tsv"]);
        assert!(proved.is_none(), "{title} has a scenario, take it out of elsewhere.tsv");
    }
    let Ok(text) = std::fs::read_to_string(ROWS) else {
        println!("skipped: {ROWS} is not there");
        return;
    };
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    for title in places.keys() {
        assert!(rows.iter().any(|row| row[3] == *title), "no row has the title {title:?}");
    }
    let missing: Vec<&str> = rows
        .iter()
        .filter(|row| row[0] == AREA && !places.contains_key(row[3]))
        .map(|row| row[3])
        .collect();
    assert!(missing.is_empty(), "these rows have no scenario:\n{}", missing.join("\n"));
}
