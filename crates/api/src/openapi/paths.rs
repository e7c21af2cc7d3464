//! The paths of a resource and its subresources.

use serde_json::json;

use super::operations::{
    CUSTOM_FORMATS, CUSTOM_LIST_FORMATS, DELETE, FORMATS, LIST_FORMATS, Operation, PATCH, PRETTY,
    SELECT, WATCH, WRITE,
};
use super::{Builder, Route, Subroute, capital};
use crate::schema::{self, Scalar, Shape, Type};

type Methods = Vec<(&'static str, Operation)>;

/// Adds all paths of a resource.
pub(super) fn add(builder: &mut Builder, route: &Route) {
    let schema = builder.components.kind(route);
    let list = builder.components.list(route);
    let resource = Resource { route, schema, list, title: builder.title(), tag: builder.tag() };
    let prefix = builder.prefix();
    let space = if route.namespaced { "/namespaces/{namespace}" } else { "" };
    let plural = &route.plural;
    let collection = format!("{prefix}{space}/{plural}");
    let item = format!("{collection}/{{name}}");
    let methods = resource.collection(builder);
    builder.put(&collection, methods);
    let methods = resource.item(builder);
    builder.put(&item, methods);
    if resource.has("list") && route.namespaced {
        let id = resource.id("list", &format!("{}ForAllNamespaces", route.kind), false);
        let operation = resource.lists(&id, "list", &[], &resource.list);
        builder.put(&format!("{prefix}/{plural}"), vec![("get", operation)]);
    }
    if resource.has("watch") && route.schema.is_none() {
        resource.watches(builder, &prefix, space);
    }
    for subresource in &route.subresources {
        resource.subresource(builder, subresource, &item);
    }
}

/// A route with the names that its operations need.
struct Resource<'a> {
    route: &'a Route,
    schema: String,
    list: String,
    title: String,
    tag: String,
}

impl Resource<'_> {
    fn has(&self, verb: &str) -> bool {
        self.route.verbs.iter().any(|v| v == verb)
    }

    fn id(&self, verb: &str, rest: &str, namespaced: bool) -> String {
        let namespaced = if namespaced { "Namespaced" } else { "" };
        format!("{verb}{}{namespaced}{rest}", self.title)
    }

    /// An operation on the resource's own kind.
    fn operation(&self, verb: &str, action: &str, rest: &str) -> Operation {
        let id = self.id(verb, rest, self.route.namespaced);
        let Route { group, version, kind, .. } = self.route;
        Operation::new(&id, &self.tag).action(action, group, version, kind)
    }

    fn formats(&self) -> &'static [&'static str] {
        if self.route.schema.is_some() { CUSTOM_FORMATS } else { FORMATS }
    }

    fn list_formats(&self) -> &'static [&'static str] {
        if self.route.schema.is_some() { CUSTOM_LIST_FORMATS } else { LIST_FORMATS }
    }

    /// The path parameters of the collection.
    fn space(&self) -> &'static [&'static str] {
        if self.route.namespaced { &["namespace"] } else { &[] }
    }

    fn lists(&self, id: &str, action: &str, path: &[&str], answer: &str) -> Operation {
        let Route { group, version, kind, .. } = self.route;
        let operation = Operation::new(id, &self.tag).action(action, group, version, kind);
        let mut operation = operation.path(path).query(PRETTY).query(SELECT).query(WATCH);
        operation.answer("200", answer, self.list_formats());
        operation
    }

    fn collection(&self, builder: &mut Builder) -> Methods {
        let mut methods = Methods::new();
        let kind = &self.route.kind;
        if self.has("list") {
            let id = self.id("list", kind, self.route.namespaced);
            methods.push(("get", self.lists(&id, "list", self.space(), &self.list)));
        }
        if self.has("create") {
            let operation = self.operation("create", "post", kind).path(self.space());
            methods.push(("post", self.writes(operation, &self.schema, &["200", "201", "202"])));
        }
        if self.has("deletecollection") {
            let namespaced = if self.route.namespaced { "Namespaced" } else { "" };
            let id = format!("delete{}Collection{namespaced}{kind}", self.title);
            let Route { group, version, .. } = self.route;
            let operation =
                Operation::new(&id, &self.tag).action("deletecollection", group, version, kind);
            let options = builder.components.meta("DeleteOptions");
            let status = builder.components.meta("Status");
            let operation = operation.path(self.space()).query(PRETTY).query(SELECT).query(DELETE);
            let mut operation = operation.body(&["*/*"], &options, false);
            operation.answer("200", &status, self.formats());
            methods.push(("delete", operation));
        }
        methods
    }

    fn item(&self, builder: &mut Builder) -> Methods {
        let mut methods = Methods::new();
        let kind = &self.route.kind;
        if self.has("get") {
            methods.push(("get", self.reads(self.operation("read", "get", kind), &self.schema)));
        }
        if self.has("update") {
            let operation = self.named(self.operation("replace", "put", kind));
            methods.push(("put", self.writes(operation, &self.schema, &["200", "201"])));
        }
        if self.has("patch") {
            let operation = self.operation("patch", "patch", kind);
            methods.push(("patch", self.patches(builder, operation, &self.schema)));
        }
        if self.has("delete") {
            let options = builder.components.meta("DeleteOptions");
            let status = builder.components.meta("Status");
            let answer = if self.route.returns_deleted { &self.schema } else { &status };
            let operation = self.named(self.operation("delete", "delete", kind));
            let operation = operation.query(PRETTY).query(DELETE);
            let mut operation = operation.body(&["*/*"], &options, false);
            for code in ["200", "202"] {
                operation.answer(code, answer, self.formats());
            }
            methods.push(("delete", operation));
        }
        methods
    }

    /// Adds the path parameters of one object.
    fn named(&self, operation: Operation) -> Operation {
        operation.path(&["name"]).path(self.space())
    }

    fn reads(&self, operation: Operation, schema: &str) -> Operation {
        let mut operation = self.named(operation).query(PRETTY);
        operation.answer("200", schema, self.formats());
        operation
    }

    fn writes(&self, operation: Operation, schema: &str, codes: &[&str]) -> Operation {
        let body: &[&str] = if self.route.schema.is_some() { CUSTOM_FORMATS } else { &["*/*"] };
        let mut operation = operation.query(PRETTY).query(WRITE).body(body, schema, true);
        for code in codes {
            operation.answer(code, schema, self.formats());
        }
        operation
    }

    fn patches(&self, builder: &mut Builder, operation: Operation, schema: &str) -> Operation {
        let patch = builder.components.meta("Patch");
        let mut formats = vec![
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
        ];
        if self.route.schema.is_none() {
            formats.push("application/strategic-merge-patch+json");
        }
        let operation = self.named(operation).query(PRETTY).query(WRITE).query(PATCH);
        let mut operation = operation.body(&formats, &patch, true);
        let codes: &[&str] = if self.route.schema.is_some() { &["200"] } else { &["200", "201"] };
        for code in codes {
            operation.answer(code, schema, self.formats());
        }
        operation
    }

    /// The old watch paths.
    fn watches(&self, builder: &mut Builder, prefix: &str, space: &str) {
        let Route { plural, kind, namespaced, .. } = self.route;
        let event = builder.components.meta("WatchEvent");
        let collection = format!("{prefix}/watch{space}/{plural}");
        if self.has("list") {
            let id = self.id("watch", &format!("{kind}List"), *namespaced);
            let operation = self.lists(&id, "watchlist", self.space(), &event);
            builder.put(&collection, vec![("get", operation)]);
            if *namespaced {
                let id = self.id("watch", &format!("{kind}ListForAllNamespaces"), false);
                let operation = self.lists(&id, "watchlist", &[], &event);
                builder.put(&format!("{prefix}/watch/{plural}"), vec![("get", operation)]);
            }
        }
        if self.has("get") {
            let id = self.id("watch", kind, *namespaced);
            let path = [&["name"], self.space()].concat();
            let operation = self.lists(&id, "watch", &path, &event);
            builder.put(&format!("{collection}/{{name}}"), vec![("get", operation)]);
        }
    }

    fn subresource(&self, builder: &mut Builder, sub: &Subroute, item: &str) {
        let path = format!("{item}/{}", sub.name);
        match sub.name.as_str() {
            "exec" | "attach" | "portforward" => {
                let methods = self.connects(sub, &["get", "post"], false);
                builder.put(&path, methods);
            }
            "proxy" => {
                let all = ["delete", "get", "head", "options", "patch", "post", "put"];
                let methods = self.connects(sub, &all, false);
                builder.put(&path, methods);
                let methods = self.connects(sub, &all, true);
                builder.put(&format!("{path}/{{path}}"), methods);
            }
            _ => {
                let methods = self.plain_subresource(builder, sub);
                builder.put(&path, methods);
            }
        }
    }

    fn plain_subresource(&self, builder: &mut Builder, sub: &Subroute) -> Methods {
        let custom_kind = self.route.schema.is_some() && sub.kind.kind == self.route.kind;
        let schema =
            if custom_kind { self.schema.clone() } else { builder.components.built_in(&sub.kind) };
        let rest = format!("{}{}", self.route.kind, capital(&sub.name));
        let operation = |verb: &str, action: &str| {
            let id = self.id(verb, &rest, self.route.namespaced);
            let (group, version) = (&sub.kind.group, &sub.kind.version);
            Operation::new(&id, &self.tag).action(action, group, version, &sub.kind.kind)
        };
        let mut methods = Methods::new();
        for verb in &sub.verbs {
            match verb.as_str() {
                "get" if sub.name == "log" => {
                    let mut read = self.named(operation("read", "get")).query(PRETTY);
                    options(&mut read, schema::type_named("core/v1.PodLogOptions"));
                    let formats = [FORMATS, &["text/plain"]].concat();
                    read.answer_plain("200", &formats, json!({"type": "string"}));
                    methods.push(("get", read));
                }
                "get" => methods.push(("get", self.reads(operation("read", "get"), &schema))),
                "create" => {
                    let create = self.named(operation("create", "post"));
                    methods.push(("post", self.writes(create, &schema, &["200", "201", "202"])));
                }
                "update" => {
                    let replace = self.named(operation("replace", "put"));
                    methods.push(("put", self.writes(replace, &schema, &["200", "201"])));
                }
                "patch" => {
                    let patch = self.patches(builder, operation("patch", "patch"), &schema);
                    methods.push(("patch", patch));
                }
                _ => {}
            }
        }
        methods
    }

    /// The operations of a stream or proxy.
    fn connects(&self, sub: &Subroute, methods: &[&'static str], below: bool) -> Methods {
        let with_path = if below { "WithPath" } else { "" };
        let rest = format!("{}{}{with_path}", self.route.kind, capital(&sub.name));
        let (group, version) = (&sub.kind.group, &sub.kind.version);
        let ty = schema::kind(group, version, &sub.kind.kind);
        let operation = |method: &str| {
            let verb = format!("connect{}{}", self.title, capital(method));
            let namespaced = if self.route.namespaced { "Namespaced" } else { "" };
            let operation = Operation::new(&format!("{verb}{namespaced}{rest}"), &self.tag);
            let operation = operation.action("connect", group, version, &sub.kind.kind);
            let mut operation = self.named(operation);
            if below {
                operation = operation.path(&["path"]);
            }
            options(&mut operation, ty);
            operation.answer_plain("200", &["*/*"], json!({"type": "string"}));
            operation
        };
        methods.iter().map(|method| (*method, operation(method))).collect()
    }
}

/// Adds the fields of an options type as query parameters.
fn options(operation: &mut Operation, ty: Option<&'static Type>) {
    for field in ty.into_iter().flat_map(|ty| &ty.fields).filter(|f| !f.inline) {
        let shape = field.shape.item().unwrap_or(field.shape);
        if shape == Shape::Scalar(Scalar::Time) {
            continue; // has no form in a query of OpenAPI
        }
        let ty = match shape {
            Shape::Scalar(Scalar::Bool) => "boolean",
            Shape::Scalar(Scalar::Int32 | Scalar::Int64) => "integer",
            _ => "string",
        };
        operation.parameter("query", field.json_name, ty);
    }
}
