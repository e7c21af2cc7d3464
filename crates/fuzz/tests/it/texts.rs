//! Laws of selectors, quantities and durations.

use longshore_api::duration;
use longshore_api::quantity::Quantity;
use longshore_api::selector::{FieldSelector, LabelSelector, Operator};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn key() -> impl Strategy<Value = String> {
    "([a-z][a-z0-9-]{0,8}[a-z0-9]\\.example/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,12}[A-Za-z0-9])?"
        .prop_filter("words of the language", |key| !["in", "notin"].contains(&key.as_str()))
}

fn label() -> impl Strategy<Value = String> {
    "([A-Za-z0-9]([A-Za-z0-9._-]{0,12}[A-Za-z0-9])?)?"
}

fn requirement() -> impl Strategy<Value = String> {
    prop_oneof![
        key(),
        key().prop_map(|key| format!("!{key}")),
        (key(), label()).prop_map(|(key, value)| format!("{key}={value}")),
        (key(), label()).prop_map(|(key, value)| format!("{key} != {value}")),
        (key(), 0..i64::MAX).prop_map(|(key, value)| format!("{key}>{value}")),
        (key(), proptest::collection::vec(label(), 1..4))
            .prop_map(|(key, values)| format!("{key} in ({})", values.join(", "))),
        (key(), proptest::collection::vec(label(), 1..4))
            .prop_map(|(key, values)| format!("{key} notin ({})", values.join(","))),
    ]
}

/// The same cases in every run.
fn settings() -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_printed_label_selector_is_the_same_selector(
        requirements in proptest::collection::vec(requirement(), 0..5),
        value in proptest::option::of(label()),
    ) {
        let text = requirements.join(",");
        let selector = LabelSelector::parse(&text).unwrap();
        let again = LabelSelector::parse(&selector.to_string()).unwrap();
        prop_assert_eq!(&selector, &again);
        // All requirements must hold, each by itself.
        let look_up = |_: &str| value.as_deref();
        let each = requirements
            .iter()
            .all(|one| LabelSelector::parse(one).unwrap().matches(look_up));
        prop_assert_eq!(selector.matches(look_up), each);
    }

    #[test]
    fn opposite_requirements_never_agree(key in key(), value in label(), had in proptest::option::of(label())) {
        for (one, other) in [
            (format!("{key}={value}"), format!("{key}!={value}")),
            (key.clone(), format!("!{key}")),
            (format!("{key} in (a,b)"), format!("{key} notin (b,a)")),
        ] {
            let one = LabelSelector::parse(&one).unwrap();
            let other = LabelSelector::parse(&other).unwrap();
            let look_up = |_: &str| had.as_deref();
            prop_assert_ne!(one.matches(look_up), other.matches(look_up));
        }
        let selector = LabelSelector::parse(&format!("{key} in (b,a,b)")).unwrap();
        prop_assert_eq!(selector.requirements()[0].operator, Operator::In);
        prop_assert_eq!(selector.requirements()[0].values.len(), 2);
    }

    #[test]
    fn a_field_selector_reads_what_is_escaped(field in "[a-z]{1,8}(\\.[a-z]{1,8})?", value in "\\PC{0,12}") {
        let escaped: String = value
            .chars()
            .flat_map(|c| ['\\', ',', '='].contains(&c).then_some('\\').into_iter().chain([c]))
            .collect();
        let selector = FieldSelector::parse(&format!("{field}={escaped},other!=x")).unwrap();
        prop_assert_eq!(&selector.requirements()[0].value, &value);
        let other = selector.matches(|name| if name == field { &value } else { "y" });
        prop_assert!(other || field == "other");
    }

    #[test]
    fn quantities_print_and_compare_as_numbers(a in -1_000_000_000_000_i64..1_000_000_000_000, b in -1_000_000_i64..1_000_000, suffix in 0_usize..8) {
        let suffix = ["", "m", "k", "M", "Ki", "Mi", "e3", "u"][suffix];
        let text = format!("{a}{suffix}");
        let quantity = Quantity::parse(&text).unwrap();
        let again = Quantity::parse(&quantity.to_string()).unwrap();
        prop_assert_eq!(again, quantity);
        prop_assert_eq!(again.to_string(), quantity.to_string());
        let other = Quantity::parse(&format!("{b}{suffix}")).unwrap();
        prop_assert_eq!(quantity.cmp(&other), a.cmp(&b));
        prop_assert_eq!(quantity.plus(other).minus(other), quantity);
        prop_assert_eq!(quantity.plus(other), Quantity::parse(&format!("{}{suffix}", a + b)).unwrap());
        prop_assert_eq!(quantity.sign() < 0, a < 0);
        let whole = Quantity::from_integer(a);
        prop_assert_eq!((whole.value(), Quantity::from_milli(a).milli_value()), (a, a));
    }

    #[test]
    fn durations_print_what_they_are(nanos in any::<i64>()) {
        let printed = duration::print(nanos);
        prop_assert_eq!(duration::parse(&printed), Ok(nanos));
    }
}
