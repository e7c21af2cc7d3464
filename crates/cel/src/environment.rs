//! Environments: which functions, variables and types an expression may use.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/environment/base.go

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crate::checker::{self, Checked, Scope, Types};
use crate::declared::{Declared, Structs};
use crate::decls::Functions;
use crate::estimate::{self, Estimate};
use crate::eval::{self, Evaluation, Variables};
use crate::functions::LIBRARIES;
use crate::issue::CompileError;
use crate::macros::Macros;
use crate::parser;
use crate::plan::{self, Node};
use crate::types::Type;
use crate::validate;

/// Most that one evaluation may cost.
pub const CALL_COST_MAX: u64 = 1_000_000;
/// Most that all rules of an object, or all expressions of a policy, may cost.
pub const TOTAL_COST_MAX: u64 = 10_000_000;
/// Most that all match conditions of a webhook or policy may cost.
pub const MATCH_COST_MAX: u64 = 2_500_000;

/// Which libraries an environment has beyond those of every one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras {
    /// `cel.bind`, for devices.
    pub bind: bool,
    /// `jsonpatch.escapeKey`, for mutating policies.
    pub json_patch: bool,
}

/// What expressions may use.
#[derive(Clone)]
pub struct Environment {
    functions: Arc<Functions>,
    macros: Macros,
    variables: BTreeMap<Arc<str>, Type>,
    structs: Structs,
    types: Vec<Arc<dyn Types>>,
}

fn functions(extras: Extras) -> Functions {
    let mut functions = Functions::default();
    for library in LIBRARIES {
        let wanted = match library.name {
            "jsonpatch" => extras.json_patch,
            _ => true,
        };
        if wanted && let Err(line) = functions.add(library.declarations) {
            // The tables are part of the program; a test reads them all.
            debug_assert!(false, "{line}");
        }
    }
    functions
}

impl Environment {
    /// What every expression may use in Kubernetes v1.36.
    pub fn new() -> Self {
        static BASE: LazyLock<Arc<Functions>> =
            LazyLock::new(|| Arc::new(functions(Extras::default())));
        Self {
            functions: BASE.clone(),
            macros: Macros { optional: true, two_variables: true, sort_by: true, bind: false },
            variables: BTreeMap::new(),
            structs: Structs::default(),
            types: Vec::new(),
        }
    }

    /// With more libraries.
    pub fn with_extras(extras: Extras) -> Self {
        let mut environment = Self::new();
        environment.functions = Arc::new(functions(extras));
        environment.macros.bind = extras.bind;
        environment
    }

    /// Adds a variable of this type.
    #[must_use]
    pub fn variable(mut self, name: &str, t: Type) -> Self {
        self.variables.insert(name.into(), t);
        self
    }

    /// Adds a variable whose data is declared: its type, its structs, and for estimates its sizes.
    #[must_use]
    pub fn declared(mut self, name: &str, declared: Arc<Declared>) -> Self {
        self.variables.insert(name.into(), declared.type_of());
        declared.collect(&mut self.structs.0);
        self
    }

    /// Adds structs without a variable.
    #[must_use]
    pub fn structs(mut self, declared: &Declared) -> Self {
        declared.collect(&mut self.structs.0);
        self
    }

    /// Adds structs that somebody else knows.
    #[must_use]
    pub fn types(mut self, types: Arc<dyn Types>) -> Self {
        self.types.push(types);
        self
    }

    /// Reads, checks and plans an expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(&self, source: &str) -> Result<Program, CompileError> {
        let ast = parser::parse(source, &self.macros).map_err(CompileError::Issues)?;
        let scope = Scope {
            functions: &self.functions,
            variables: &|name| self.variables.get(name).cloned(),
            types: self,
        };
        let checked = checker::check(ast, source, &scope).map_err(CompileError::Issues)?;
        validate::validate(&checked, source).map_err(CompileError::Issues)?;
        let plan = plan::plan(&checked).map_err(CompileError::Plan)?;
        Ok(Program { checked, plan })
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self::new()
    }
}

impl Types for Environment {
    fn known(&self, name: &str) -> bool {
        self.structs.known(name) || self.types.iter().any(|types| types.known(name))
    }

    fn field(&self, name: &str, field: &str) -> Option<Type> {
        if self.structs.known(name) {
            return self.structs.field(name, field);
        }
        self.types.iter().find(|types| types.known(name))?.field(name, field)
    }
}

/// An expression that can be evaluated any number of times.
pub struct Program {
    checked: Checked,
    plan: Node,
}

impl Program {
    /// The type of its value.
    pub fn output_type(&self) -> &Type {
        self.checked.type_of(&self.checked.ast.root)
    }

    /// Evaluates it. It ends with [`crate::EvalError::CostExceeded`] when it costs more than `limit`.
    pub fn evaluate<'a>(&'a self, variables: &dyn Variables<'a>, limit: u64) -> Evaluation<'a> {
        eval::evaluate(&self.plan, variables, limit)
    }

    /// How deep it nests: evaluating it goes as deep.
    pub fn depth(&self) -> usize {
        usize::from(self.checked.ast.root.depth)
    }

    /// What it may cost at least and at most when its data is as `root` declares it: every variable is taken to be
    /// of that declaration, as the reference does for `self` and `oldSelf`.
    pub fn estimate(&self, root: Option<&Declared>) -> Estimate {
        estimate::estimate(&self.checked, root)
    }

    /// Whether it uses a variable.
    pub fn uses(&self, name: &str) -> bool {
        let mut found = false;
        self.checked.ast.root.walk(&mut |expr| {
            found |= matches!(&expr.kind, crate::ast::Kind::Ident(own) if &**own == name);
        });
        found
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("type", self.output_type()).finish_non_exhaustive()
    }
}
