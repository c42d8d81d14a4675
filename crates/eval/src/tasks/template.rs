//! The templates of a task, compiled once: Jinja as minijinja has it, with the Python methods that tasks use.

use std::collections::BTreeSet;

use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, Error as Jinja, ErrorKind, Output, State, UndefinedBehavior, Value as Jvalue};
use serde_json::Value;

use super::{Doc, TaskSpec, docs};
use crate::python;
use crate::{Error, Result};

/// The fields of a task that are templates or expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// The prompt.
    Text,
    /// The answer.
    Target,
    /// The list of choices.
    Choice,
    /// Which choices are true.
    True,
    /// What words and bytes are counted in.
    Count,
    /// The answer of a fixed example.
    ShotTarget,
    /// A program.
    Program,
    /// The tests of a program.
    Tests,
    /// What the tests need besides it.
    TestContext,
    /// The names that they take from it.
    Provided,
    /// The number that a program must print.
    Answer,
}

/// The compiled templates of one task.
pub(crate) struct Templates {
    task: String,
    environment: Environment<'static>,
    fields: Vec<(Field, Source)>,
    columns: Vec<(String, Source)>,
}

#[derive(Clone)]
enum Source {
    /// The value of a column, whatever its kind.
    Column(String),
    /// `{{ … }}` and nothing else: the value of the expression, whatever its kind.
    Expression(String),
    /// Text with expressions in it.
    Template(String),
}

impl Templates {
    /// Compiles every template.
    pub(crate) fn new(spec: &TaskSpec) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = minijinja::syntax::SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment
            .set_syntax(syntax.map_err(|e| Error::Task { task: spec.task.clone(), message: line(&e) })?);
        environment.set_unknown_method_callback(method);
        let refuse = |message: String| Jinja::new(ErrorKind::InvalidOperation, message);
        environment.add_filter("hellaswag", move |text: String| docs::hellaswag(&text).map_err(refuse));
        environment.add_filter("wikitext", move |text: String| docs::wikitext(&text).map_err(refuse));
        environment.add_filter("trim", |text: String| python::strip(&text).to_owned());
        environment.add_filter("capitalize", |text: String| python::capitalize(&text));
        environment.set_formatter(write_as_python);
        let given = [
            (Field::Text, Some(&spec.doc_to_text)),
            (Field::Target, Some(&spec.doc_to_target)),
            (Field::Choice, spec.doc_to_choice.as_ref()),
            (Field::True, spec.true_choices.as_ref()),
            (Field::Count, spec.count_text.as_ref()),
            (Field::ShotTarget, spec.fewshot_doc_to_target.as_ref()),
            (Field::Program, spec.code.as_ref().map(|code| &code.program)),
            (Field::Tests, spec.code.as_ref().and_then(|code| code.tests.as_ref())),
            (Field::TestContext, spec.code.as_ref().and_then(|code| code.context.as_ref())),
            (Field::Provided, spec.code.as_ref().and_then(|code| code.provided.as_ref())),
            (Field::Answer, spec.code.as_ref().and_then(|code| code.answer.as_ref())),
        ];
        let mut templates =
            Self { task: spec.task.clone(), environment, fields: Vec::new(), columns: Vec::new() };
        for (field, text) in given {
            if let Some(text) = text {
                let source = Source::of(text);
                templates.compile(&source)?;
                templates.fields.push((field, source));
            }
        }
        for column in &spec.process_docs {
            let source = Source::of(&column.value);
            templates.compile(&source)?;
            templates.columns.push((column.column.clone(), source));
        }
        Ok(templates)
    }

    /// Whether the task has this field.
    pub(crate) fn has(&self, field: Field) -> bool {
        self.fields.iter().any(|(f, _)| *f == field)
    }

    /// The columns that documents must have.
    pub(crate) fn columns(&self) -> BTreeSet<String> {
        let made: BTreeSet<&String> = self.columns.iter().map(|(name, _)| name).collect();
        let fixed = |field: &Field| matches!(field, Field::ShotTarget);
        let sources = self.fields.iter().filter(|(f, _)| !fixed(f)).map(|(_, s)| s);
        let mut names = BTreeSet::new();
        for source in sources.chain(self.columns.iter().map(|(_, s)| s)) {
            match source {
                Source::Column(name) => _ = names.insert(name.clone()),
                Source::Expression(text) => {
                    if let Ok(expression) = self.environment.compile_expression(text) {
                        names.extend(expression.undeclared_variables(false));
                    }
                }
                Source::Template(text) => {
                    if let Ok(template) = self.environment.template_from_str(text) {
                        names.extend(template.undeclared_variables(false));
                    }
                }
            }
        }
        names.retain(|name| !made.contains(name) && name != "completion");
        names
    }

    /// Adds the columns that the task computes.
    pub(crate) fn process(&self, doc: &mut Doc) -> Result<(), String> {
        for (name, source) in &self.columns {
            let value = self.value(source, doc)?;
            doc.insert(name.clone(), value);
        }
        Ok(())
    }

    /// A field as text.
    pub(crate) fn text(&self, field: Field, doc: &Doc) -> Result<String, String> {
        let value = self.get(field, doc)?;
        Ok(python::text(&value))
    }

    /// A field as whatever it is.
    pub(crate) fn get(&self, field: Field, doc: &Doc) -> Result<Value, String> {
        let source = self.fields.iter().find(|(f, _)| *f == field).map(|(_, s)| s);
        source.map_or_else(|| Err(format!("the task has no {field:?}")), |source| self.value(source, doc))
    }

    fn compile(&self, source: &Source) -> Result<()> {
        let checked = match source {
            Source::Column(_) => Ok(()),
            Source::Expression(text) => self.environment.compile_expression(text).map(|_| ()),
            Source::Template(text) => self.environment.template_from_str(text).map(|_| ()),
        };
        checked.map_err(|e| Error::Task { task: self.task.clone(), message: line(&e) })
    }

    fn value(&self, source: &Source, doc: &Doc) -> Result<Value, String> {
        let value = match source {
            Source::Column(name) => {
                return doc.get(name).cloned().ok_or_else(|| format!("no column \"{name}\""));
            }
            Source::Expression(text) => {
                let expression = self.environment.compile_expression(text).map_err(|e| line(&e))?;
                let value = expression.eval(Serde(doc)).map_err(|e| line(&e))?;
                if value.is_undefined() {
                    return Err(format!("\"{text}\" has no value"));
                }
                serde_json::to_value(&value).map_err(|e| e.to_string())?
            }
            Source::Template(text) => {
                let template = self.environment.template_from_str(text).map_err(|e| line(&e))?;
                Value::String(template.render(Serde(doc)).map_err(|e| line(&e))?)
            }
        };
        Ok(value)
    }
}

impl Source {
    fn of(text: &str) -> Self {
        let inner = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        if let Some(inner) = inner.filter(|inner| !inner.contains("{{") && !inner.contains("{%")) {
            return Self::Expression(inner.trim().to_owned());
        }
        let word = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if word && !text.starts_with(|c: char| c.is_ascii_digit()) {
            return Self::Column(text.to_owned());
        }
        if text.parse::<u32>().is_ok() {
            return Self::Expression(text.to_owned());
        }
        Self::Template(text.to_owned())
    }
}

fn line(error: &Jinja) -> String {
    let text = error.detail().map_or_else(|| error.kind().to_string(), |d| format!("{}: {d}", error.kind()));
    text.replace('\n', " ")
}

/// What stands between braces in a text, as Python's `str` gives it: `True`, `None`, `['a', 'b']`.
fn write_as_python(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Jvalue) -> Result<(), Jinja> {
    let fail = |e: String| Jinja::new(ErrorKind::BadSerialization, e);
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_undefined() => String::new(),
        None => python::text(&serde_json::to_value(value).map_err(|e| fail(e.to_string()))?),
    };
    out.write_str(&text).map_err(|e| fail(e.to_string()))
}

/// The methods of Python's strings and lists that the templates of benchmarks call.
fn method(_state: &mut State<'_, '_>, value: &Jvalue, name: &str, args: &[Jvalue]) -> Result<Jvalue, Jinja> {
    let unknown = || Jinja::new(ErrorKind::UnknownMethod, format!("no method \"{name}\" here"));
    let wrong = |what: &str| Jinja::new(ErrorKind::InvalidOperation, format!("{name}: {what}"));
    if value.kind() == ValueKind::Seq && name == "index" {
        let wanted = args.first().ok_or_else(|| wrong("expected one argument"))?;
        let place = value.try_iter()?.position(|item| item == *wanted);
        return place.map(Jvalue::from).ok_or_else(|| wrong(&format!("{wanted} is not in {value}")));
    }
    let Some(s) = value.as_str() else { return Err(unknown()) };
    let arg = |i: usize| args.get(i).and_then(Jvalue::as_str).ok_or_else(|| wrong("expected a string"));
    let most = match name {
        "replace" => 2,
        "lower" | "upper" | "capitalize" => 0,
        _ => 1,
    };
    // A count of replacements or a limit of parts would change the result, so it is not passed over.
    if args.len() > most {
        return Err(wrong(&format!("expected at most {most} arguments, found {}", args.len())));
    }
    // Python's strip() takes off white space, strip(chars) any of the characters.
    let chars =
        |c: char| args.first().and_then(Jvalue::as_str).map_or(python::is_space(c), |set| set.contains(c));
    Ok(match name {
        "strip" => s.trim_matches(chars).into(),
        "lstrip" => s.trim_start_matches(chars).into(),
        "rstrip" => s.trim_end_matches(chars).into(),
        "lower" => s.to_lowercase().into(),
        "upper" => s.to_uppercase().into(),
        "capitalize" => python::capitalize(s).into(),
        "startswith" => s.starts_with(arg(0)?).into(),
        "endswith" => s.ends_with(arg(0)?).into(),
        "replace" => s.replace(arg(0)?, arg(1)?).into(),
        "index" => {
            let at = s
                .find(arg(0)?)
                .ok_or_else(|| wrong(&format!("\"{}\" is not there", arg(0).unwrap_or(""))))?;
            s[..at].chars().count().into()
        }
        "split" if args.is_empty() => python::split(s).map(Jvalue::from).collect::<Vec<_>>().into(),
        "split" if arg(0)?.is_empty() => return Err(wrong("expected a separator, found nothing")),
        "split" => s.split(arg(0)?).map(Jvalue::from).collect::<Vec<_>>().into(),
        "join" => {
            let items: Vec<Jvalue> =
                args.first().ok_or_else(|| wrong("expected a list"))?.try_iter()?.collect();
            items.iter().map(ToString::to_string).collect::<Vec<_>>().join(s).into()
        }
        _ => return Err(unknown()),
    })
}
