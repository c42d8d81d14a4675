//! The Jinja environment that Hugging Face gives chat templates (transformers, `utils/chat_template_utils.py`).

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};

use super::{generation, python};

/// What a template may do before it is stopped: this many instructions, 64 bytes written or copied counting as one, so
/// 128 MB at most. A template that a conversation of a megabyte goes through ten times needs a tenth of it.
pub(super) const FUEL: u64 = 2_000_000;

/// Stands before the message of `raise_exception` in an error.
pub(super) const RAISED: &str = "raised: ";

/// The environment; `now` is the moment that `strftime_now` tells, in seconds since 1970, the present one if `None`.
pub(super) fn environment(now: Option<i64>) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.set_fuel(Some(FUEL));
    env.add_filter("tojson", |value: Value, kwargs: Kwargs| python::tojson(&value, kwargs));
    env.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    env.add_function("strftime_now", move |format: String| {
        python::strftime(now.unwrap_or_else(present), &format)
    });
    env.add_function(generation::FUNCTION, |state: &mut State, kwargs: Kwargs| -> Result<Value, Error> {
        let caller: Value = kwargs.get("caller")?;
        let body = caller.call(state, &[])?;
        Ok(Value::from(format!("{}{body}{}", generation::BEGIN, generation::END)))
    });
    Ok(env)
}

fn present() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs() as i64)
}
