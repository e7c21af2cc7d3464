//! Ingresses that name no class get the default one.
//!
//! upstream: plugin/pkg/admission/network/defaultingressclass/admission.go

use std::sync::Arc;

use longshore_api::Object;

use super::default_storage_class::newest;
use super::{Attributes, Plain, Tools, Verdict};
use crate::reader::Reader;

const GROUP: &str = "networking.k8s.io";
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const OLD_CLASS: &str = "kubernetes.io/ingress.class";

pub(super) struct DefaultIngressClass {
    reader: Arc<dyn Reader>,
}

impl DefaultIngressClass {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone() }
    }
}

impl Plain for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn admit(&self, a: &Attributes<'_>, ingress: &mut Object, _old: Option<&Object>) -> Verdict {
        let named = ingress.get(&["spec", "ingressClassName"]).is_some_and(|v| !v.is_null())
            || ingress.annotation(OLD_CLASS).is_some();
        if !a.is(GROUP, "ingresses") || !a.creates() || named {
            return Ok(());
        }
        let mut classes = self.reader.list(GROUP, "ingressclasses", "");
        classes.retain(|class| class.annotation(DEFAULT) == Some("true"));
        if let Some(class) = newest(classes) {
            ingress.set(&["spec", "ingressClassName"], class.name());
        }
        Ok(())
    }
}
