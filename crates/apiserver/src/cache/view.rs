//! How a cache sees what is stored: the fields that objects are selected by, and the form in which
//! they are shown when it is not the one in which they were stored.

use longshore_api::Object;
use longshore_resources::table::Text;

/// What a resource says of its stored objects.
pub trait View: Send + Sync + 'static {
    /// The fields besides name and namespace that objects are selected by.
    fn field_names(&self) -> &[Text];

    /// Their values in an object, in the order of the names.
    fn field_values(&self, object: &Object) -> Vec<String>;

    /// The one of these fields of which an index is kept.
    fn indexed_field(&self) -> Option<&'static str> {
        None
    }

    /// Whether [`View::restore`] does anything.
    fn restores(&self) -> bool {
        false
    }

    /// Gives an object that was read from the store the form in which it is shown.
    fn restore(&self, _object: &mut Object) {}
}

/// The view of a resource whose objects are shown as they are stored.
pub struct Plain {
    strategy: std::sync::Arc<dyn longshore_resources::Strategy>,
    names: Vec<Text>,
}

impl Plain {
    /// The view that a strategy asks for.
    pub fn new(strategy: std::sync::Arc<dyn longshore_resources::Strategy>) -> Self {
        // Versions that share a cache may each have names of their own; an empty object tells all.
        let fields = strategy.selectable_fields(&Object::default());
        let names = fields.into_iter().map(|(name, _)| Text::Owned(name.to_owned())).collect();
        Self { strategy, names }
    }
}

impl View for Plain {
    fn field_names(&self) -> &[Text] {
        &self.names
    }

    fn field_values(&self, object: &Object) -> Vec<String> {
        let mut fields = self.strategy.selectable_fields(object);
        let mut value = |name: &Text| {
            let at = fields.iter().position(|(field, _)| *field == &**name);
            at.map_or_else(String::new, |at| std::mem::take(&mut fields[at].1))
        };
        self.names.iter().map(&mut value).collect()
    }

    fn indexed_field(&self) -> Option<&'static str> {
        self.strategy.indexed_field()
    }
}
