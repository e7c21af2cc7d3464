//! How the cache of a custom resource sees its objects.

use longshore_api::Object;
use longshore_resources::apiextensions::custom::Stored;
use longshore_resources::table::Text;

use crate::cache::View;

/// The view that a definition asks for.
pub(super) struct CustomView(pub(super) Stored);

impl View for CustomView {
    fn field_names(&self) -> &[Text] {
        self.0.field_names()
    }

    fn field_values(&self, object: &Object) -> Vec<String> {
        self.0.field_values(object)
    }

    fn restores(&self) -> bool {
        true
    }

    fn restore(&self, object: &mut Object) {
        self.0.restore(object);
    }
}
