//! Expressions about requests: what they see, how they are compiled and evaluated.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/cel/{compile,composition,activation}.go

#[cfg(test)]
mod tests;
mod types;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use longshore_api::Object;
use longshore_api::field::{Error, Path};
use longshore_cel::{
    CALL_COST_MAX, CompileError, Declared, Environment, EvalError, Evaluation, Extras, Fields, Map,
    Outcome, Program, Type, Types, Value as Cel, Variables,
};
use serde_json::Value;

/// Most that the expressions of a policy may cost for one request and parameter.
pub const BUDGET: i64 = 10_000_000;
/// Most that conditions may cost for one request.
pub const CONDITIONS_BUDGET: i64 = 2_500_000;
/// What is told when it was too much.
pub const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";
/// Deepest nesting of an expression with the variables that are found for it.
const DEPTH_MAX: usize = 600;
/// What finding a variable adds to that.
const VARIABLE_DEPTH: usize = 5;
/// The type of the variables of a policy.
const VARIABLES: &str = "kubernetes.variables";

/// What a request is, as expressions see it.
pub struct Request {
    /// In the version in which the policy is about it.
    pub seen: Value,
    /// As conditions see it, where that differs.
    pub in_conditions: Option<Value>,
}

/// What an expression may give.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// Whether something holds.
    Bool,
    /// A text.
    Text,
    /// A text or null.
    TextOrNull,
    /// Anything.
    Any,
    /// A part of an object.
    Configuration,
    /// The operations of a JSON patch.
    Operations,
}

impl Gives {
    fn types(self) -> Vec<Type> {
        match self {
            Self::Bool => vec![Type::Bool],
            Self::Text => vec![Type::String],
            Self::TextOrNull => vec![Type::String, Type::Null],
            Self::Any => Vec::new(),
            Self::Configuration => vec![Type::object("Object")],
            Self::Operations => vec![Type::list(Type::object("JSONPatch"))],
        }
    }
}

/// What expressions see besides the objects and the request.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Sees {
    /// Parameters.
    pub params: bool,
    /// Who may do what.
    pub authorizer: bool,
    /// The types of patches.
    pub patches: bool,
}

/// Compiles the expressions of one policy or list of conditions.
pub struct Compiler {
    sees: Sees,
    /// The type of the objects, where it is known.
    object: Option<Arc<Declared>>,
    /// That of the parameters.
    params: Option<Arc<Declared>>,
    /// The types of the variables; none when there can be none.
    variables: Option<Arc<VariableTypes>>,
    /// What was made of it, by what expressions see.
    made: RefCell<Vec<(Sees, Environment)>>,
}

/// The environment of expressions without parameters, authorizer and variables.
fn base(extras: Extras) -> Environment {
    static TYPES: LazyLock<[Arc<Declared>; 2]> =
        LazyLock::new(|| [Arc::new(types::request()), Arc::new(types::namespace())]);
    let [request, namespace] = &*TYPES;
    Environment::with_extras(extras)
        .declared("request", request.clone())
        .declared("namespaceObject", namespace.clone())
}

/// The types of variables; they come one after the other.
#[derive(Default)]
struct VariableTypes(RwLock<BTreeMap<String, Type>>);

impl VariableTypes {
    fn add(&self, name: &str, of: Type) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), of);
    }
}

impl Types for VariableTypes {
    fn known(&self, name: &str) -> bool {
        name == VARIABLES
    }

    fn field(&self, _name: &str, field: &str) -> Option<Type> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(field).cloned()
    }
}

/// The type of a variable: what is kept of that of its expression.
///
/// upstream: pkg/admission/plugin/cel/composition.go convertCelTypeToDeclType
fn kept(of: &Type) -> Type {
    match of {
        Type::Bool
        | Type::Int
        | Type::Uint
        | Type::Double
        | Type::String
        | Type::Bytes
        | Type::Duration
        | Type::Timestamp
        | Type::Null => of.clone(),
        Type::List(item) => Type::list(kept(item)),
        Type::Map(key, value) => Type::map(kept(key), kept(value)),
        _ => Type::Dyn,
    }
}

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It is wrong.
    Invalid(String),
    /// It reads well and cannot work.
    Internal(String),
}

impl Broken {
    /// What is wrong.
    pub fn text(&self) -> &str {
        match self {
            Self::Invalid(why) | Self::Internal(why) => why,
        }
    }

    /// As the broken rule of the field that holds the expression.
    pub fn of_field(&self, path: &Path, expression: &str) -> Error {
        match self {
            Self::Invalid(why) => Error::invalid(path, expression, why),
            Self::Internal(why) => Error::internal(path, why),
        }
    }
}

impl From<CompileError> for Broken {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Plan(why) => {
                Self::Internal(format!("program instantiation failed: {why}"))
            }
            other => Self::Invalid(format!("compilation failed: {other}")),
        }
    }
}

/// A type as messages about what an expression gives name it.
///
/// upstream: vendor/github.com/google/cel-go/common/types/types.go Type.String
pub(super) fn shown(of: &Type) -> String {
    let parameters: Vec<&Type> = match of {
        Type::List(item) => vec![item],
        Type::Map(key, value) => vec![key, value],
        Type::Opaque(_, parameters) => parameters.iter().collect(),
        Type::Type(Some(of)) => vec![of],
        _ => Vec::new(),
    };
    if parameters.is_empty() {
        return of.name().to_owned();
    }
    let parameters: Vec<String> = parameters.into_iter().map(shown).collect();
    format!("{}({})", of.name(), parameters.join(", "))
}

impl Compiler {
    /// A compiler of expressions that see this. `variables`: whether there may be variables.
    pub fn new(sees: Sees, variables: bool) -> Self {
        let variables = variables.then(Arc::default);
        Self { sees, object: None, params: None, variables, made: RefCell::default() }
    }

    /// A compiler that knows of which types the objects and parameters are.
    pub fn typed(sees: Sees, object: Arc<Declared>, params: Option<Arc<Declared>>) -> Self {
        Self { object: Some(object), params, ..Self::new(sees, true) }
    }

    fn environment(&self, sees: Sees) -> Environment {
        let mut made = self.made.borrow_mut();
        if let Some((_, environment)) = made.iter().find(|(own, _)| *own == sees) {
            return environment.clone();
        }
        let extras = Extras { json_patch: sees.patches, ..Extras::default() };
        let declared = |environment: Environment, name: &str, of: &Option<Arc<Declared>>| match of {
            Some(of) => environment.declared(name, of.clone()),
            None => environment.variable(name, Type::Dyn),
        };
        let mut environment = declared(base(extras), "object", &self.object);
        environment = declared(environment, "oldObject", &self.object);
        if sees.params {
            environment = declared(environment, "params", &self.params);
        }
        if sees.authorizer {
            let of = Type::object;
            environment = environment
                .variable("authorizer", of("kubernetes.authorization.Authorizer"))
                .variable(
                    "authorizer.requestResource",
                    of("kubernetes.authorization.ResourceCheck"),
                );
        }
        if sees.patches {
            environment = environment.types(Arc::new(types::Patches));
        }
        if let Some(variables) = &self.variables {
            environment =
                environment.types(variables.clone()).variable("variables", Type::object(VARIABLES));
        }
        made.push((sees, environment.clone()));
        environment
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// Why it cannot be used, in upstream's words.
    pub fn compile(&self, expression: &str, gives: Gives) -> Result<Program, Broken> {
        self.compile_as(expression, gives, self.sees)
    }

    /// As [`Compiler::compile`] for an expression that sees something else.
    ///
    /// # Errors
    /// As for [`Compiler::compile`].
    pub fn compile_as(
        &self,
        expression: &str,
        gives: Gives,
        sees: Sees,
    ) -> Result<Program, Broken> {
        let program = self.environment(sees).compile(expression)?;
        let found = program.output_type();
        let wanted = gives.types();
        match wanted.as_slice() {
            [] => {}
            [one] if one != found => {
                let (one, found) = (shown(one), shown(found));
                return Err(Broken::Invalid(format!("must evaluate to {one} but got {found}")));
            }
            many if !many.contains(found) => {
                let many: Vec<String> = many.iter().map(shown).collect();
                let (many, found) = (many.join(" "), shown(found));
                let why = format!("must evaluate to one of [{many}] but got {found}");
                return Err(Broken::Invalid(why));
            }
            _ => {}
        }
        Ok(program)
    }

    /// What is wrong with an expression, without any introduction; none when it is good.
    pub fn issues(&self, expression: &str) -> Option<String> {
        match self.environment(self.sees).compile(expression) {
            Err(CompileError::Issues(issues)) => Some(issues.to_string()),
            // Whether it can work is not asked.
            Ok(_) | Err(CompileError::Plan(_)) => None,
        }
    }

    /// Compiles a variable, which later expressions see, also when it is broken.
    ///
    /// # Errors
    /// As for [`Compiler::compile`].
    pub fn variable(&self, name: &str, expression: &str) -> Result<Program, Broken> {
        let program = self.compile(expression, Gives::Any);
        if let Some(variables) = &self.variables {
            variables.add(name, program.as_ref().map_or(Type::Dyn, |p| kept(p.output_type())));
        }
        program
    }
}

/// An expression of a stored policy, which may be broken.
#[derive(Debug)]
pub struct Compiled {
    program: Result<Program, Broken>,
    text: String,
}

impl Compiled {
    /// Compiles an expression.
    pub fn new(compiler: &Compiler, expression: &str, gives: Gives, sees: Sees) -> Self {
        let program = compiler.compile_as(expression, gives, sees);
        Self { program, text: expression.to_owned() }
    }

    /// Why it cannot be used.
    pub fn error(&self) -> Option<&str> {
        self.program.as_ref().err().map(Broken::text)
    }
}

/// The variables of a policy, by name.
#[derive(Debug, Default)]
pub struct Composed(BTreeMap<String, Result<Program, Broken>>);

impl Composed {
    /// Compiles variables in their order.
    pub fn new(compiler: &Compiler, variables: &[Value]) -> Self {
        let mut composed = BTreeMap::new();
        for variable in variables {
            let text = |key: &str| variable[key].as_str().unwrap_or("");
            let program = compiler.variable(text("name"), text("expression"));
            composed.insert(text("name").to_owned(), program);
        }
        Self(composed)
    }
}

/// Answers what expressions ask of who may do what.
pub trait Authorizer: Send + Sync {
    /// The value of `authorizer`.
    fn own<'v>(&self) -> Cel<'v>;
    /// The value of `authorizer.requestResource`.
    fn of_request<'v>(&self) -> Cel<'v>;
}

/// What a request brings to the expressions of a policy.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The new object; none on delete.
    pub object: Option<&'a Object>,
    /// The present object; none on create.
    pub old: Option<&'a Object>,
    /// The parameters.
    pub params: Option<&'a Object>,
    /// The request.
    pub request: &'a Request,
    /// Whether it is a condition that asks.
    pub in_condition: bool,
    /// The namespace; none for cluster scope.
    pub namespace: Option<&'a Value>,
    /// Who may do what.
    pub authorizer: &'a dyn Authorizer,
}

/// One evaluation of several expressions for a request, which share what variables gave.
pub struct Run<'a> {
    scope: Arc<Scope<'a>>,
    budget: i64,
}

/// What variables gave; none for one that is being evaluated.
type Found<'a> = BTreeMap<&'a str, Option<Outcome<'a>>>;

/// The variables of one run.
struct Scope<'a> {
    input: Input<'a>,
    composed: Option<&'a Composed>,
    found: Mutex<Found<'a>>,
    /// What finding them cost.
    cost: AtomicU64,
    /// How deep the expressions nest that are being evaluated.
    depth: AtomicUsize,
    own: Weak<Scope<'a>>,
}

/// No more may be evaluated: the budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent;

impl<'a> Scope<'a> {
    fn found(&self) -> MutexGuard<'_, Found<'a>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn object(object: Option<&Object>) -> Cel<'_> {
    object.map_or(Cel::Null, |object| Cel::Map(Map::Json(object.root(), None)))
}

impl<'a> Variables<'a> for Scope<'a> {
    fn get(&self, name: &str) -> Option<Outcome<'a>> {
        Some(Ok(match name {
            "object" => object(self.input.object),
            "oldObject" => object(self.input.old),
            "params" => object(self.input.params),
            "request" => {
                let request = self.input.request;
                let other = request.in_conditions.as_ref().filter(|_| self.input.in_condition);
                Cel::dynamic(other.unwrap_or(&request.seen))
            }
            "namespaceObject" => self.input.namespace.map_or(Cel::Null, Cel::dynamic),
            "variables" => {
                self.composed?;
                Cel::Map(Map::Lazy(self.own.upgrade()?))
            }
            "authorizer" => self.input.authorizer.own(),
            "authorizer.requestResource" => self.input.authorizer.of_request(),
            _ => return None,
        }))
    }
}

impl<'a> Fields<'a> for Scope<'a> {
    fn get(&self, name: &str) -> Option<Outcome<'a>> {
        let (name, program) = self.composed?.0.get_key_value(name)?;
        if let Some(found) = self.found().get(name.as_str()) {
            // What asks for itself has no value.
            let cycle = || Err(EvalError::new(format!("variable {name:?} refers to itself")));
            return Some(found.clone().unwrap_or_else(cycle));
        }
        self.found().insert(name, None);
        let quoted = longshore_api::patch::gotext::quote(name);
        let outcome = match program {
            Err(why) => {
                let why = format!("composited variable {quoted} fails to compile: {}", why.text());
                Err(EvalError::new(why))
            }
            Ok(program) => {
                let depth = program.depth() + VARIABLE_DEPTH;
                let around = self.depth.fetch_add(depth, Ordering::Relaxed);
                let result = if around + depth > DEPTH_MAX {
                    Err(EvalError::CostExceeded)
                } else {
                    let Evaluation { result, cost } = program.evaluate(self, CALL_COST_MAX);
                    self.cost.fetch_add(cost, Ordering::Relaxed);
                    result
                };
                self.depth.store(around, Ordering::Relaxed);
                result.map_err(|why| {
                    let why = format!("composited variable {quoted} fails to evaluate: {why}");
                    EvalError::new(why)
                })
            }
        };
        self.found().insert(name, Some(outcome.clone()));
        Some(outcome)
    }

    fn has(&self, name: &str) -> bool {
        self.composed.is_some_and(|composed| composed.0.contains_key(name))
    }

    fn type_name(&self) -> &str {
        VARIABLES
    }
}

impl<'a> Run<'a> {
    /// Begins to evaluate with a budget.
    pub fn new(input: Input<'a>, composed: Option<&'a Composed>, budget: i64) -> Self {
        let scope = Arc::new_cyclic(|own| Scope {
            input,
            composed,
            found: Mutex::default(),
            cost: AtomicU64::new(0),
            depth: AtomicUsize::new(0),
            own: own.clone(),
        });
        Self { scope, budget }
    }

    /// What may be spent yet.
    pub fn budget(&self) -> i64 {
        self.budget
    }

    /// Evaluates an expression; what goes wrong is told in upstream's words.
    ///
    /// # Errors
    /// When the budget is spent.
    pub fn evaluate(&mut self, compiled: &'a Compiled) -> Result<Result<Cel<'a>, String>, Spent> {
        let program = match &compiled.program {
            Err(why) => return Ok(Err(format!("compilation error: {}", why.text()))),
            Ok(program) => program,
        };
        self.scope.depth.store(program.depth(), Ordering::Relaxed);
        let Evaluation { result, cost } = program.evaluate(&*self.scope, CALL_COST_MAX);
        for cost in [self.scope.cost.swap(0, Ordering::Relaxed), cost] {
            let cost = i64::try_from(cost).map_err(|_| Spent)?;
            if cost > self.budget {
                return Err(Spent);
            }
            self.budget -= cost;
        }
        let text = &compiled.text;
        Ok(result.map_err(|why| format!("expression '{text}' resulted in error: {why}")))
    }
}
