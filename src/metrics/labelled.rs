//! Counters of one name that differ in one label, whose values are met as they come.

use std::sync::OnceLock;

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{LABEL_VALUES_MAX, OTHER};

type Label = [(&'static str, String); 1];

/// The first values get a counter each, all later ones share one: what clients or prices say must not
/// fill the memory of the monitoring.
#[derive(Debug)]
pub(super) struct Labelled {
    label: &'static str,
    family: Family<Label, Counter>,
    known: [OnceLock<(String, Counter)>; LABEL_VALUES_MAX],
    other: Counter,
}

impl Labelled {
    pub(super) fn registered(
        registry: &mut Registry,
        name: &str,
        text: &str,
        label: &'static str,
    ) -> Self {
        let family = Family::<Label, Counter>::default();
        registry.register(name, text, family.clone());
        let other = family.get_or_create_owned(&[(label, OTHER.to_owned())]);
        Self { label, family, known: [const { OnceLock::new() }; LABEL_VALUES_MAX], other }
    }

    /// The counter of a value.
    pub(super) fn of(&self, value: &str) -> &Counter {
        let made = || {
            let counter = self.family.get_or_create_owned(&[(self.label, value.to_owned())]);
            (value.to_owned(), counter)
        };
        let mut known = self.known.iter().map(|place| place.get_or_init(made));
        known.find(|(known, _)| known == value).map_or(&self.other, |(_, counter)| counter)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text::encode;

    use super::*;

    #[test]
    fn values_are_counted_apart_until_there_are_too_many() {
        let mut registry = Registry::default();
        let tokens = Labelled::registered(&mut registry, "tokens", "Tokens", "model");
        for number in 0..LABEL_VALUES_MAX + 2 {
            tokens.of(&format!("model \"{number}\"")).inc_by(10);
        }
        tokens.of("model \"0\"").inc();
        let mut text = String::new();
        encode(&mut text, &registry).expect("a String takes all text");
        assert!(text.contains("tokens_total{model=\"model \\\"0\\\"\"} 11\n"), "{text}");
        assert!(text.contains("tokens_total{model=\"other\"} 20\n"), "{text}");
        let series = text.lines().filter(|line| line.starts_with("tokens_total{")).count();
        assert_eq!(series, LABEL_VALUES_MAX + 1);
    }
}
