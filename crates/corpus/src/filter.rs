//! Rules that documents must pass, each with the parameters of where it comes from, each switched on by a recipe.
//!
//! Nothing is on by itself: rules for prose destroy code and LaTeX, so a recipe asks for them source by source.
//! Lines end at `\n` and lengths are in code points, as in the sources of the rules. docs/data.md has the table.

mod algebraic;
mod code;
mod encoded;
mod extensions;
mod license;
mod notebook;
mod pii;
mod repetition;
mod stats;
mod text;
mod toggle;
mod visible;

use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::error::{Error, Result};
use crate::pipeline::CorpusSource;
use crate::source::Environment;
pub use algebraic::AlgebraicStack;
pub use code::{CharsPerToken, Stack, StarCoder, StarCoder2};
pub use encoded::{Encoded, Generated};
pub(crate) use extensions::Extensions;
pub use license::LicenseRule;
use license::Licenses;
pub use pii::{Pii, PiiCounts};
pub use repetition::GopherRepetition;
use stats::Stats;
pub use text::{C4, FineWeb, GopherQuality, OpenWebMath};
pub use toggle::Toggle;

/// The rules of one source: `rule = true` takes it with its defaults, a table changes some of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Filters {
    /// Only documents under these licences.
    pub license: Toggle<LicenseRule>,
    /// Files that say a program wrote them.
    pub generated: Toggle<Generated>,
    /// The Stack and SantaCoder.
    pub stack: Toggle<Stack>,
    /// StarCoder (the first).
    pub starcoder: Toggle<StarCoder>,
    /// StarCoder2 and The Stack v2.
    pub starcoder2: Toggle<StarCoder2>,
    /// Data encoded as text.
    pub encoded: Toggle<Encoded>,
    /// AlgebraicStack: mathematical code by language and import.
    pub algebraic_stack: Toggle<AlgebraicStack>,
    /// C4: lines and pages.
    pub c4: Toggle<C4>,
    /// Gopher: quality.
    pub gopher_quality: Toggle<GopherQuality>,
    /// Gopher: repetition.
    pub gopher_repetition: Toggle<GopherRepetition>,
    /// FineWeb.
    pub fineweb: Toggle<FineWeb>,
    /// OpenWebMath.
    pub openwebmath: Toggle<OpenWebMath>,
    /// E-mail addresses, public IPv4 addresses and keys are replaced. Drops nothing.
    pub pii: Toggle<Pii>,
}

/// What speaks against a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Against {
    /// `filter/rule`.
    pub(crate) rule: &'static str,
    /// What was found and what is allowed.
    pub(crate) detail: String,
}

/// The outcome of one rule.
pub(crate) type Verdict = Result<(), Against>;

/// What rules of one source look things up in.
#[derive(Default)]
pub(crate) struct Aids {
    licenses: Licenses,
    extensions: Option<Extensions>,
    digest: String,
}

impl Aids {
    /// Those that the rules of a source ask for.
    pub(crate) fn of(source: &CorpusSource, environment: &Environment) -> Result<Self> {
        let table = source.filters.starcoder.get().and_then(|rule| rule.per_extension.as_ref());
        let table = table.map(|path| Extensions::load(&environment.resolve(path))).transpose()?;
        let licenses = Licenses::of(source, environment);
        let digest = table.as_ref().map_or("", Extensions::digest).to_owned() + &licenses.digest();
        Ok(Self { licenses, extensions: table, digest })
    }

    /// Over all that was read: the table that the recipe names, and the licence files among the documents, which are
    /// in no part themselves.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }
}

/// The rule on characters per token, for a document of so many.
pub(crate) fn judge_tokens(rule: &CharsPerToken, document: &Document, tokens: usize) -> Verdict {
    rule.judge(&document.text, document.meta.language.as_deref().unwrap_or_default(), tokens)
}

/// Refuses unless it holds.
pub(crate) fn demand(holds: bool, rule: &'static str, detail: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Against { rule, detail: detail() }) }
}

impl Filters {
    /// Before anything else, what a document really is: of a notebook that AlgebraicStack takes, its Markdown.
    pub(crate) fn convert(&self, document: &mut Document) -> Verdict {
        let Some(rule) = self.algebraic_stack.get() else { return Ok(()) };
        let language = document.meta.language.as_deref().unwrap_or_default();
        if let Some(markdown) = rule.convert(&document.text, language)? {
            document.text = markdown;
        }
        Ok(())
    }

    /// Takes the document through all rules that are on, in the order above but for characters per token; C4 takes
    /// lines out of it.
    pub(crate) fn judge(&self, document: &mut Document, aids: &Aids) -> Verdict {
        if let Some(rule) = self.license.get() {
            rule.judge(document, &aids.licenses)?;
        }
        let meta = &document.meta;
        let (language, path) = (meta.language.as_deref().unwrap_or_default(), meta.path.as_deref());
        let text = &document.text;
        if let Some(rule) = self.generated.get() {
            rule.judge(text)?;
        }
        if self.stack.is_on() || self.starcoder.is_on() || self.starcoder2.is_on() {
            let stats = Stats::of(text);
            self.stack.get().map_or(Ok(()), |rule| rule.judge(text, language, meta, &stats))?;
            let table = aids.extensions.as_ref();
            self.starcoder.get().map_or(Ok(()), |rule| rule.judge(text, language, path, &stats, table))?;
            self.starcoder2.get().map_or(Ok(()), |rule| rule.judge(language, &stats))?;
        }
        if let Some(rule) = self.encoded.get() {
            rule.judge(text)?;
        }
        self.algebraic_stack.get().map_or(Ok(()), |rule| rule.judge(text, language, path))?;
        if let Some(rule) = self.c4.get() {
            document.text = rule.judge(&document.text)?;
        }
        let text = &document.text;
        self.gopher_quality.get().map_or(Ok(()), |rule| rule.judge(text))?;
        self.gopher_repetition.get().map_or(Ok(()), |rule| rule.judge(text))?;
        self.fineweb.get().map_or(Ok(()), |rule| rule.judge(text))?;
        if let Some(rule) = self.openwebmath.get() {
            document.text = rule.judge(&document.text)?;
        }
        Ok(())
    }

    /// The rule on characters per token, where it is on and has a number for this document's language.
    pub(crate) fn chars_per_token(&self, document: &Document) -> Option<&CharsPerToken> {
        let rule = self.stack.get()?.chars_per_token.get()?;
        rule.0.contains_key(document.meta.language.as_deref()?).then_some(rule)
    }

    /// Whether the tokenizer has a say in what is dropped.
    pub(crate) fn asks_tokenizer(&self) -> bool {
        self.stack.get().is_some_and(|rule| rule.chars_per_token.is_on())
    }

    /// Replaces what is private; how is a function of the document.
    pub(crate) fn replace_pii(&self, text: &mut String) -> PiiCounts {
        self.pii.get().map_or_else(PiiCounts::default, |rule| rule.replace(text))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let license = self.license.get();
        if license.is_some_and(|rule| rule.allow.is_empty()) {
            let message = "expected at least one licence, found none".to_owned();
            return Err(Error::Setting { key: "filters.license.allow", message });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
